# docker build -t outrider .
#
# A static binary in an image with nothing else in it but CA certificates and the time zones. No shell, no package
# manager: what is not there cannot be used by somebody who gets in.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# `--target` keeps the static flag away from procedural macros, which are loaded at run time by the compiler.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin outrider --target "$target" \
 && install -D -m 0755 "target/$target/release/outrider" /out/outrider

FROM gcr.io/distroless/static-debian12
COPY --from=build /out/outrider /usr/local/bin/outrider
# The uid is part of the contract: redirect rules let this user's connections pass.
USER 4750:4750
# 4750 outbound and 4751 explicit proxy listen on loopback, inside the pod; 4759 is the admin port.
EXPOSE 4750 4751 4759
# Kubernetes probes ask /live and /ready; a health command would need a shell or a second program.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/outrider"]
CMD ["run", "/etc/outrider"]
