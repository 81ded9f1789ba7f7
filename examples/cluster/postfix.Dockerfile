# Debian's Postfix with one milter and one domain, example.com. What it takes it throws
# away: it is for trying a policy, not for mail.
FROM debian:bookworm-slim
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postfix && \
    rm -rf /var/lib/apt/lists/*
# The milter is named by its address: smtpd would ask a name server from its chroot.
ARG MILTER
# The package wrote down the name of the machine that built the image: without it
# Postfix has the name of its container.
RUN postconf -X myhostname && postconf -e \
    "smtpd_milters = { inet:$MILTER, connect_timeout=2s, command_timeout=15s, content_timeout=30s, default_action=accept }" \
    "maillog_file = /dev/stdout" \
    "mydestination =" \
    "mynetworks =" \
    "local_recipient_maps =" \
    "virtual_mailbox_domains = example.com" \
    "virtual_transport = discard" \
    "smtpd_relay_restrictions = reject_unauth_destination" \
    "inet_interfaces = all"
EXPOSE 25
CMD ["postfix", "start-fg"]
