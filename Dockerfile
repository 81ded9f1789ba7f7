# audit-milter alone, as a user without rights: the final image is the program, the
# certificates that TLS needs, and a directory for its state.
#
#   docker build -t audit-milter .
#   docker run --rm --hostname mx1 -p 127.0.0.1:9900:9900 \
#     -v ./config.yaml:/etc/audit-milter/config.yaml:ro -v audit-milter:/var/lib/audit-milter audit-milter
#
# A container has a loopback and addresses of its own. So the configuration needs
# listen: {socket: "inet:0.0.0.0:9900", allow: [172.17.0.0/16]}, the network of Docker's
# bridge, and a list of the host's own addresses, if they are not to be limited. Without
# --hostname each container has another name, which is that of the node.
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
