/*
 * A filter that does nothing, on Sendmail's own library: each callback goes on.
 *
 *     libmilter SOCKET BITS
 *
 * SOCKET is unix:PATH or inet:PORT@HOST; BITS are the protocol bits that it
 * negotiates, as far as they are offered.
 */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long bits;

static sfsistat go_on(unsigned long unanswered) { return bits & unanswered ? SMFIS_NOREPLY : SMFIS_CONTINUE; }

static sfsistat negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2, unsigned long f3,
	unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
	(void)ctx, (void)f2, (void)f3;
	*pf0 = f0 & SMFIF_SETSYMLIST;
	*pf1 = f1 & bits;
	*pf2 = *pf3 = 0;
	return SMFIS_CONTINUE;
}

static sfsistat connected(SMFICTX *ctx, char *name, _SOCK_ADDR *addr)
{
	(void)ctx, (void)name, (void)addr;
	return go_on(SMFIP_NR_CONN);
}

static sfsistat helo(SMFICTX *ctx, char *name)
{
	(void)ctx, (void)name;
	return go_on(SMFIP_NR_HELO);
}

static sfsistat mail(SMFICTX *ctx, char **args)
{
	(void)ctx, (void)args;
	return go_on(SMFIP_NR_MAIL);
}

static sfsistat rcpt(SMFICTX *ctx, char **args)
{
	(void)ctx, (void)args;
	return go_on(SMFIP_NR_RCPT);
}

static sfsistat data(SMFICTX *ctx)
{
	(void)ctx;
	return go_on(SMFIP_NR_DATA);
}

static sfsistat header(SMFICTX *ctx, char *name, char *value)
{
	(void)ctx, (void)name, (void)value;
	return go_on(SMFIP_NR_HDR);
}

static sfsistat eoh(SMFICTX *ctx)
{
	(void)ctx;
	return go_on(SMFIP_NR_EOH);
}

static sfsistat body(SMFICTX *ctx, unsigned char *chunk, size_t size)
{
	(void)ctx, (void)chunk, (void)size;
	return go_on(SMFIP_NR_BODY);
}

static sfsistat eom(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_CONTINUE;
}

static sfsistat aborted(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_CONTINUE;
}

static sfsistat closed(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
	struct smfiDesc filter = {
		.xxfi_name = "nothing",
		.xxfi_version = SMFI_VERSION,
		.xxfi_flags = SMFIF_SETSYMLIST,
		.xxfi_connect = connected,
		.xxfi_helo = helo,
		.xxfi_envfrom = mail,
		.xxfi_envrcpt = rcpt,
		.xxfi_data = data,
		.xxfi_header = header,
		.xxfi_eoh = eoh,
		.xxfi_body = body,
		.xxfi_eom = eom,
		.xxfi_abort = aborted,
		.xxfi_close = closed,
		.xxfi_negotiate = negotiate,
	};

	if (argc != 3) {
		fprintf(stderr, "write libmilter SOCKET BITS\n");
		return 1;
	}
	bits = strtoul(argv[2], NULL, 0);
	if (smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS || smfi_setbacklog(4096) != MI_SUCCESS)
		return 1;
	return smfi_main();
}
