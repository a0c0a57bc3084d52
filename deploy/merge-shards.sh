#!/bin/sh
# merge-shards.sh RESULTS SHARDS: merges the journals that run-shard.sh left in RESULTS, and writes reports:
# merged.jsonl, report.txt, report.html, report.xml (JUnit).
#
# The exit code is that of `injector report`: 0 no findings, 1 findings. It is 2 when shards are missing; the others are
# merged and reported in any case.
set -u

die() {
	echo "merge-shards: $*" >&2
	exit 2
}

[ $# -eq 2 ] || die "usage: merge-shards.sh RESULTS SHARDS"
results=$1 shards=$2
case $shards in
'' | *[!0-9]*) die "SHARDS is \`$shards\`; it must be a number" ;;
esac

missing=
set --
index=0
while [ $index -lt "$shards" ]; do
	found=
	for file in "$results/sweep.$index.jsonl" "$results/sweep.$index.jsonl".*-of-*; do
		# A journal that is empty is of a shard that never started.
		if [ -s "$file" ]; then
			set -- "$@" "$file"
			found=yes
		fi
	done
	[ -n "$found" ] || missing="$missing $index"
	index=$((index + 1))
done
[ $# -gt 0 ] || die "there is no journal in $results"

injector merge --output "$results/merged.jsonl" "$@" || exit
injector report "$results/merged.jsonl" --html "$results/report.html" --junit "$results/report.xml" >"$results/report.txt"
status=$?
cat "$results/report.txt"
[ -z "$missing" ] || die "no journal of shard$missing"
exit $status
