# audit-milter alone, as a user without rights: the final image is the program, the
# certificates that TLS needs, and a directory for its state.
#
#   docker build -t audit-milter .
#   docker run --rm -v ./config.yaml:/etc/audit-milter/config.yaml:ro audit-milter
#
# docker-compose.yml runs a cluster of it.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags=-s -o /image/usr/bin/audit-milter ./cmd/audit-milter
# Directories of the final image: it has no shell that could make them. Whoever mounts
# a new volume there gets it with this owner.
RUN install -d /image/etc/audit-milter /image/etc/ssl/certs && \
    install -d -o 65532 -g 65532 -m 750 /image/var/lib/audit-milter && \
    install -d -o 65532 -g 65532 -m 755 /image/run/audit-milter && \
    install -d -m 1777 /image/tmp && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image /
USER 65532:65532
WORKDIR /var/lib/audit-milter
VOLUME /var/lib/audit-milter
EXPOSE 9900 9980
# SIGTERM drains for up to 10 seconds: give `docker stop` more than its own 10.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/audit-milter"]
CMD ["serve", "--config", "/etc/audit-milter/config.yaml"]
