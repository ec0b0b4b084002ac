"""What is measured: the cases, in the order in which they are run."""

from dataclasses import dataclass

PROXIES = ("outrider", "envoy", "haproxy", "nginx")
CACHES = ("outrider", "nginx", "varnish", "haproxy")
# Debian's nginx passes bytes on only with a module of a package of its own.
TUNNELS = ("outrider", "envoy", "haproxy")
# nginx fails some calls: what an upstream may still say of a stream that has ended is an error to it.
GRPC = ("outrider", "envoy", "haproxy")
# A frame's five bytes of head, and a message.
GRPC_MESSAGE = 5 + 100


@dataclass(frozen=True)
class Case:
    name: str
    about: str
    protocol: str  # "h1" or "h2", on both sides of the proxy
    path: str
    size: int  # bytes of the response body
    programs: tuple[str, ...] = PROXIES
    flavour: str = ""  # which of a program's configurations, where it has one for it
    connections: int = 64
    body: int = 0  # bytes of the request body
    fresh: bool = False  # a connection of its own for each request
    paced: str = ""  # "": as fast as it is answered; "1000": so many a second; "half": of what each program can do


CASES = [
    Case("h1-1k", "HTTP/1.1, 1 KiB", "h1", "/1k", 1024),
    Case("h1-64k", "HTTP/1.1, 64 KiB", "h1", "/64k", 65536),
    Case("h1-10m", "HTTP/1.1, 10 MiB streamed, 8 connections", "h1", "/10m", 10 << 20, connections=8),
    Case("h1-post", "HTTP/1.1, POST of 16 KiB", "h1", "/1k", 1024, body=16 << 10),
    Case("h1-1conn", "HTTP/1.1, 1 KiB, 1 connection", "h1", "/1k", 1024, connections=1),
    Case("h1-1000conn", "HTTP/1.1, 1 KiB, 1000 connections", "h1", "/1k", 1024, connections=1000),
    Case("h1-new", "HTTP/1.1, 1 KiB, a new connection for each request", "h1", "/1k", 1024, fresh=True),
    Case("h2-1k", "HTTP/2, 1 KiB, 4 connections x 8 streams", "h2", "/1k", 1024),
    Case("h2-64k", "HTTP/2, 64 KiB, 4 connections x 8 streams", "h2", "/64k", 65536),
    Case("grpc", "gRPC, unary, 100 bytes each way, 4 connections x 8 streams", "h2", "/bench.Echo/Call", GRPC_MESSAGE,
         GRPC, "grpc", body=GRPC_MESSAGE),
    Case("tunnel", "bytes nobody reads, by CONNECT for outrider; 1 KiB back and forth", "h1", "/1k", 1024, TUNNELS, "tunnel"),
    Case("hit-1k", "HTTP/1.1, 1 KiB out of the cache", "h1", "/kept/1k", 1024, CACHES, "cache"),
    Case("hit-64k", "HTTP/1.1, 64 KiB out of the cache", "h1", "/kept/64k", 65536, CACHES, "cache"),
    Case("hit-1k-paced", "1 KiB out of the cache at half of what the program can do", "h1", "/kept/1k", 1024, CACHES,
         "cache", paced="half"),
    Case("paced-1000", "HTTP/1.1, 1 KiB, 1000 requests a second", "h1", "/1k", 1024, ("direct", *PROXIES), paced="1000"),
]
BY_NAME = {case.name: case for case in CASES}
