#!/bin/bash
# Fuzzes one target, with one worker: test/fuzz.sh PACKAGE TARGET.
# FUZZTIME is for how long; without it a minute where what anybody may send, or an admin
# write, comes in, and ten seconds elsewhere.
#
# Before Go 1.27 a run that its time ends may call that a failure
# (golang.org/issue/75804). It says nothing else then, and keeps no failing input;
# whatever says more or keeps one is a failure.
set -euo pipefail
package=$1 target=$2

case $target in
FuzzSession | FuzzReply | FuzzParse) time=60s ;;
*) time=10s ;;
esac

# inputs counts what is kept for the target, failing inputs among it.
inputs() { find "$directory" -path "*/testdata/fuzz/$target/*" | wc -l; }

directory=$(go list -f '{{.Dir}}' "$package")
kept=$(inputs)
code=0
said=$(go test -vet=off -run '^$' -fuzz "^$target\$" -parallel 1 -fuzzminimizetime 10x -fuzztime "${FUZZTIME:-$time}" "$package" 2>&1) || code=$?
printf '%s, %s:\n%s\n' "$package" "$target" "$said"
if [[ $code == 0 ]]; then
	exit
fi
said=$(sed -e '/^fuzz: /d' -e 's/([0-9.]*s)$/(TIME)/' -e 's/\t.*//' <<<"$said")
if [[ $(inputs) != "$kept" || $said != "--- FAIL: $target (TIME)"$'\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL' ]]; then
	exit "$code"
fi
echo "that was the end of the time, and no failure"
