# tallyd in an image: built in one stage, shipped without the tools of the build in the other.
#
#   docker build --tag tallyd:0.1.0 .
#   docker run --read-only --publish 8125:8125/udp --env TALLYD_GRAPHITE_ADDRESS=graphite:2003 tallyd:0.1.0
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin tallyd \
    && strip --strip-debug target/release/tallyd \
    && mkdir /empty

FROM debian:12.11-slim
COPY --from=build /src/target/release/tallyd /usr/local/bin/tallyd
# Where buckets stand: a volume, owned by who runs.
COPY --from=build --chown=65532:65532 /empty /var/lib/tallyd
# Whom webhooks and `tallyd watch` believe over https: the slim image has nobody.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/tallyd/
# Status and metrics are for whoever reaches the container; the console stays inside it.
ENV TALLYD_HTTP_LISTEN=0.0.0.0:8127
ENV TALLYD_STORE_URL=file:/var/lib/tallyd
VOLUME /var/lib/tallyd
EXPOSE 8125/udp 8127/tcp
# Nobody's number on the host. Nothing is written but to the volume.
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/tallyd", "health"]
ENTRYPOINT ["/usr/local/bin/tallyd"]
CMD ["run"]
