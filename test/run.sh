#!/bin/bash
# Runs everything that must be right, on a Debian machine that has nothing but
# Go: it installs what it needs and says so. Ends at the first failure.
#
#   test/run.sh                 as root, or as a user who may sudo
#   FUZZTIME=10m test/run.sh    fuzzes each target for so long
set -euo pipefail
umask 022
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # a Debian user has no sbin
cd "$(dirname "$(readlink -f "$0")")/.."

if [[ $(id -u) != 0 ]]; then
	keep=CI,FUZZTIME,GOFLAGS,GONOSUMDB,GOPROXY,GOSUMDB,GOTOOLCHAIN
	keep+=,http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY
	exec sudo --preserve-env="$keep" env "PATH=$PATH" test/run.sh
fi
# The tree may belong to somebody else, whose git does not talk to root.
export GOFLAGS="${GOFLAGS-} -buildvcs=false"

# step says what comes, and after how many minutes and seconds.
step() { printf '\n==== %d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

command -v go >/dev/null || { echo "test/run.sh: Go is missing; go.mod says which version" >&2; exit 1; }

step "what this needs"
# gcc and libc6-dev for the race detector, g++ for DuckDB, the others for the
# bed of the integration tests; systemd for its tool that checks the unit; redis-server
# for what replicates.
missing=()
for package in gcc g++ libc6-dev debootstrap debian-archive-keyring iproute2 util-linux systemd redis-server; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
done
if ((${#missing[@]})); then
	echo "installing ${missing[*]}"
	apt-get update --quiet
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
fi

step "gofmt"
unformatted=$(find . -name '*.go' -not -path './test/mta/*' -exec gofmt -l {} +)
[[ -z $unformatted ]] || { echo "not formatted: $unformatted" >&2; exit 1; }

for tags in "" testclock; do
	step "go vet, staticcheck ${tags:+with the tag $tags}"
	go vet -tags "$tags" ./...
	go tool staticcheck -tags "$tags" ./...
done

# The integration tests come last, with their bed.
packages=$(go list ./... | grep -v /test/integration)

step "the comparison of journals compiles"
(cd internal/state/compare && go vet ./...)

# packages_of prints the packages that files are in.
packages_of() { dirname "$@" | sort -u | sed 's|^|./|'; }

# go vet has looked at all of it. With -short a test does a part of what one goroutine
# does alone, where the race detector finds nothing and takes ten times as long.
step "go test -race"
go test -race -short -vet=off -parallel 4 $packages # many mostly wait

step "go test, of what was a part until now"
parts=$(grep -rl --include='*_test.go' 'short\.Part(\|short\.Skip(\|raceEnabled' cmd internal milter policy series)
go test -vet=off $(packages_of $parts)

step "DuckDB reads a history"
(cd test/duckdb && go vet ./... && go test -vet=off -count=1 ./...)

step "the benchmarks of sessions, for a moment"
go test -vet=off -run '^$' -bench . -benchtime 1x ./test/bench -rounds 1 -messages 10

# The bed of the integration tests comes over the network meanwhile.
test/mta/setup >test/mta/setup.log 2>&1 &
bed=$!
trap wait EXIT

# targets prints each fuzz target after its package.
targets() {
	local files
	files=$(grep -rl --include='*_test.go' '^func Fuzz' cmd internal milter policy series)
	go test -vet=off -list '^Fuzz' $(packages_of $files) | awk '
		/^Fuzz/ {names[n++] = $1}
		/^ok/ {for (i = 0; i < n; i++) print $2, names[i]; n = 0}'
}

step "fuzzing, a target on each processor"
found=$(targets)
xargs -n 2 -P "$(nproc)" test/fuzz.sh <<<"$found"

step "the systemd unit"
test/packaging.sh

step "the bed of the integration tests"
wait $bed || { cat test/mta/setup.log; exit 1; }
tail -n 1 test/mta/setup.log

step "integration tests, and their benchmark for a moment"
integration() { CI=true go test -race -vet=off -count=1 -timeout 15m ./test/integration "$@"; }
# Each run has a bed of its own. This test waits for a minute; the others take longer.
waits='^TestANodeThatWasCutOffLosesAndRepeatsNothing$'
integration -run "$waits" >test/mta/waits.log 2>&1 &
waiting=$!
failed=
integration -skip "$waits" -bench 'Postfix/unix/example-mx/8$' -benchtime 1x -rounds 1 -messages 10 || failed=yes
wait $waiting || failed=yes
cat test/mta/waits.log
[[ ! $failed ]]

step "all is well"
