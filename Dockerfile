# autocertd as a container: built on Debian, run without a shell as a user that is not root.
#
#   docker build -t autocertd .
#   docker run --read-only -v autocertd:/var/lib/autocertd -v ./autocertd.toml:/etc/autocertd/autocertd.toml:ro autocertd

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY tests tests
COPY examples examples
RUN cargo build --release --locked --bin autocertd && install -d -m 0700 /state

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="autocertd" \
      org.opencontainers.image.description="A self-hosted Certificate Manager with an ACME renewal daemon" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build /build/target/release/autocertd /usr/bin/autocertd
COPY --from=build --chown=nonroot:nonroot /state /var/lib/autocertd
USER nonroot
VOLUME /var/lib/autocertd
EXPOSE 8440
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/usr/bin/autocertd", "healthcheck"]
ENTRYPOINT ["/usr/bin/autocertd"]
CMD ["serve"]
