#!/bin/bash
# Checks the systemd unit of packaging/ with systemd's own tool: that it says
# what systemd understands, and that it stays as closed as it is. Needs
# systemd-analyze (Debian's package systemd), not a running systemd.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

unit=audit-milter.service
exposure=15 # tenths, 100 is wide open; systemd 252 says 1.4

command -v systemd-analyze >/dev/null || {
	echo "test/packaging.sh: systemd-analyze is missing; install the package systemd" >&2
	exit 1
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# The unit must name a program that is there.
go build -buildvcs=false -o "$dir/audit-milter" ./cmd/audit-milter
sed "s|^ExecStart=/usr/bin/|ExecStart=$dir/|" "packaging/$unit" >"$dir/$unit"

# Complaints about other units of this machine are not ours.
systemd-analyze verify --man=no --recursive-errors=no "$dir/$unit"

systemd-analyze security --offline=true --threshold=$exposure "$dir/$unit" >"$dir/security" || {
	cat "$dir/security" >&2
	echo "test/packaging.sh: the unit is more open than $exposure tenths" >&2
	exit 1
}
tail -n 1 "$dir/security"
