# autocertd as a container: one static binary without a shell, run as a user that is not root. See docs/container.md.
#
#   docker build -t autocertd .
#
# Both bases can be replaced: BUILD_IMAGE needs Rust, a C compiler, ca-certificates and tzdata; of BASE_IMAGE nothing is
# wanted. With PREBUILT=target/dist/autocertd the binary of `make static` is taken, and BUILD_IMAGE needs no Rust.
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG BASE_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
ARG PREBUILT=
WORKDIR /build
COPY . .
RUN [ -n "$PREBUILT" ] || { tools/build-static && mv target/dist/autocertd /autocertd; }; \
    [ -z "$PREBUILT" ] || cp "$PREBUILT" /autocertd
# Everything but the binary that is in the image: roots of the CAs, time zones for deploy windows, the user, where names
# are looked up, mount points. /certs belongs to the user so that a new named volume there does too.
RUN mkdir -p /image/usr/bin /image/usr/share /image/etc/ssl/certs /image/etc/autocertd /image/var/lib \
 && install -m 0755 /autocertd /image/usr/bin/autocertd \
 && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
 && cp -a /usr/share/zoneinfo /image/usr/share/ \
 && rm -rf /image/usr/share/zoneinfo/right /image/usr/share/zoneinfo/posix \
 && echo 'autocertd:x:65532:65532:autocertd:/var/lib/autocertd:/sbin/nologin' >/image/etc/passwd \
 && echo 'autocertd:x:65532:' >/image/etc/group \
 && printf 'passwd: files\ngroup: files\nhosts: files dns\n' >/image/etc/nsswitch.conf \
 && install -d -m 0700 /owned/var/lib/autocertd \
 && install -d -m 0755 /owned/certs

FROM ${BASE_IMAGE}
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="autocertd" \
      org.opencontainers.image.description="A self-hosted Certificate Manager with an ACME renewal daemon" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /owned/var/lib/autocertd /var/lib/autocertd
COPY --from=build --chown=65532:65532 /owned/certs /certs
# SQLite has no other place for large temporary tables where the root file system is read-only.
ENV SQLITE_TMPDIR=/var/lib/autocertd
USER 65532:65532
WORKDIR /var/lib/autocertd
VOLUME /var/lib/autocertd
# autocertd raises its soft limit of open files to the hard one; give it 4096 or more (`--ulimit nofile=16384`).
EXPOSE 8440
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/usr/bin/autocertd", "healthcheck"]
ENTRYPOINT ["/usr/bin/autocertd"]
CMD ["serve"]
