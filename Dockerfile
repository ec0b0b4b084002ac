# syntax=docker/dockerfile:1
# One image for the proxy, `init`, the injector and discovery: a static binary and the certificates of the public CAs.
#
#   docker build -t outrider .
#   docker run --rm outrider version

# Both are given by digest where an image is built for others.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUN_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# release or dev; what is released is `release`.
ARG PROFILE=release
# The C runtime goes into the binary, so that it needs no system around it. A target must be named, or macros that run
# while compiling would be linked the same way.
ENV RUSTFLAGS="-Ctarget-feature=+crt-static"
# Everything it stands on, in a layer that changes only with the lock file: the sources are stand-ins.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches/rooms tests/suite \
    && echo 'fn main() {}' | tee src/main.rs benches/rooms/main.rs tests/suite/main.rs tests/architecture.rs >src/lib.rs \
    && cargo build --locked --profile "$PROFILE" --target "$(rustc -vV | sed -n 's/^host: //p')" \
    && rm -rf src
COPY src src
COPY config config
ARG OUTRIDER_COMMIT=unknown
# Newer than the stand-ins, or cargo would take them for built.
RUN find src -name '*.rs' -exec touch {} + \
    && target="$(rustc -vV | sed -n 's/^host: //p')" \
    && OUTRIDER_COMMIT="$OUTRIDER_COMMIT" cargo build --locked --profile "$PROFILE" --target "$target" --bin outrider \
    && cp "target/$target/$([ "$PROFILE" = dev ] && echo debug || echo "$PROFILE")/outrider" /outrider

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="outrider" \
      org.opencontainers.image.description="A sidecar resilience proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /outrider /usr/local/bin/outrider
# By number: `runAsNonRoot` cannot look a name up.
USER 4750:4750
ENTRYPOINT ["/usr/local/bin/outrider"]
CMD ["--help"]
