/*
 * The least that a milter can do at all: one thread, epoll, and an answer for
 * each frame of the kinds that are answered. test/yardstick is the same in Go.
 *
 *     echo tcp PORT ANSWER CODES
 *     echo unix PATH ANSWER CODES
 *
 * ANSWER is the frame that answers the negotiation, in hexadecimal digits;
 * CODES are the commands that are answered continue.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEAD = 5, FRAME = 65536 + 4 };

struct session {
	int fd;
	size_t have;
	unsigned char in[FRAME];
};

static unsigned char negotiation[4096];
static size_t negotiation_size;
static char answered[256];

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static int listen_at(const char *network, const char *address)
{
	int tcp = strcmp(network, "tcp") == 0, on = 1, fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(atoi(address)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	strncpy(un.sun_path, address, sizeof un.sun_path - 1);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	must(bind(fd, tcp ? (void *)&in : (void *)&un, tcp ? sizeof in : sizeof un) == 0, "bind");
	must(listen(fd, 4096) == 0, "listen");
	return fd;
}

static void admit(int queue, int listener)
{
	int on = 1;
	struct session *s = malloc(sizeof *s);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};

	s->have = 0;
	s->fd = accept(listener, NULL, NULL);
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	must(epoll_ctl(queue, EPOLL_CTL_ADD, s->fd, &e) == 0, "epoll_ctl");
}

/* answer handles the whole frames that there are; false ends the session. */
static int answer(struct session *s)
{
	static const unsigned char go_on[HEAD] = {0, 0, 0, 1, 'c'};
	size_t at = 0;

	while (s->have - at >= HEAD) {
		unsigned char *f = s->in + at;
		size_t size = 4 + ((uint32_t)f[0] << 24 | f[1] << 16 | f[2] << 8 | f[3]);

		if (size > FRAME || f[4] == 'Q')
			return 0;
		if (s->have - at < size)
			break;
		at += size;
		if (f[4] == 'O' && write(s->fd, negotiation, negotiation_size) < 0)
			return 0;
		if (answered[f[4]] && write(s->fd, go_on, HEAD) < 0)
			return 0;
	}
	memmove(s->in, s->in + at, s->have -= at);
	return 1;
}

static void hear(struct session *s)
{
	ssize_t n = read(s->fd, s->in + s->have, FRAME - s->have);

	if (n > 0) {
		s->have += n;
		if (answer(s))
			return;
	}
	close(s->fd);
	free(s);
}

int main(int argc, char **argv)
{
	struct epoll_event none = {.events = EPOLLIN}, ready[64];
	int queue = epoll_create1(0), listener;

	if (argc != 5) {
		fprintf(stderr, "write echo tcp|unix ADDRESS ANSWER CODES\n");
		return 1;
	}
	for (const char *hex = argv[3]; sscanf(hex, "%2hhx", &negotiation[negotiation_size]) == 1; hex += 2)
		negotiation_size++;
	for (const char *code = argv[4]; *code; code++)
		answered[(unsigned char)*code] = 1;
	listener = listen_at(argv[1], argv[2]);
	must(epoll_ctl(queue, EPOLL_CTL_ADD, listener, &none) == 0, "epoll_ctl");
	for (;;) {
		int n = epoll_wait(queue, ready, 64, -1);

		for (int i = 0; i < n; i++) {
			if (ready[i].data.ptr)
				hear(ready[i].data.ptr);
			else
				admit(queue, listener);
		}
	}
}
