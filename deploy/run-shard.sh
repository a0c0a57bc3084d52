#!/bin/sh
# run-shard.sh RESULTS [OPTIONS…] -- CMD…: one shard of `injector sweep OPTIONS -- CMD`, for CI systems.
#
# Which shard it is comes from the environment:
#   SHARD, SHARDS                    anything: from 0, and how many
#   JOB_COMPLETION_INDEX, SHARDS     Kubernetes, Indexed Job; SHARDS must be the job's `completions`
#   CI_NODE_INDEX, CI_NODE_TOTAL     GitLab, `parallel: N`; from 1
# The journal is RESULTS/sweep.I.jsonl. If it exists, from a run of this script that was cut off, the sweep resumes it.
#
# The exit code is 0 when the shard is done, whatever it found: findings are for the merged report (merge-shards.sh), and
# no CI system should retry a shard because of them. A shard that has no site is done, too. Otherwise it is the injector's
# own: 2 bad input and 3 something is missing, which a retry does not change; 4 interrupted and others, which a retry may
# change.
set -u

die() {
	echo "run-shard: $*" >&2
	exit 2
}

# number NAME VALUE: a number without a sign, or the end
number() {
	case $2 in
	'' | *[!0-9]*) die "$1 is \`$2\`; it must be a number" ;;
	esac
}

results=${1:-}
[ -n "$results" ] || die "usage: run-shard.sh RESULTS [OPTIONS] -- CMD"
shift
[ -d "$results" ] || die "$results is no directory"

if [ -n "${SHARD:-}" ]; then
	name=SHARD index=$SHARD count=${SHARDS:-}
elif [ -n "${JOB_COMPLETION_INDEX:-}" ]; then
	name=JOB_COMPLETION_INDEX index=$JOB_COMPLETION_INDEX count=${SHARDS:-}
elif [ -n "${CI_NODE_INDEX:-}" ]; then
	number CI_NODE_INDEX "$CI_NODE_INDEX"
	name=CI_NODE_INDEX-1 index=$((CI_NODE_INDEX - 1)) count=${CI_NODE_TOTAL:-}
else
	die "the environment does not say which shard this is: set SHARD (from 0) and SHARDS"
fi
number "$name" "$index"
number "the number of shards (SHARDS or CI_NODE_TOTAL)" "$count"
[ "$index" -lt "$count" ] || die "shard $index of $count: the first is 0, the last $((count - 1))"

journal=$results/sweep.$index.jsonl

# With --jobs a shard has several journals: sweep.0.jsonl.1-of-2 and so on
journals() {
	for file in "$journal" "$journal".*-of-*; do
		if [ -e "$file" ]; then echo "$file"; fi
	done
}

# Whether the sweep of each journal has ended.
is_over() {
	[ -n "$(journals)" ] || return 1
	for file in "$journal" "$journal".*-of-*; do
		[ -e "$file" ] || continue
		tail -n 1 "$file" | grep -q '^{"type":"end"' || return 1
	done
}

resume=
if [ -n "$(journals)" ]; then resume=--resume; fi

# $resume is one word or none.
# shellcheck disable=SC2086
injector sweep --shard "$index/$count" --journal "$journal" $resume "$@" &
injector=$!
# A CI system that ends the job sends the shell a signal; the injector must end its guest and leave the journal whole.
told=
trap 'told=yes; kill -TERM $injector 2>/dev/null' TERM INT
wait $injector
status=$?
while [ -n "$told" ]; do
	# A signal ended the wait, but the injector may still run. 127: it had ended before.
	told=
	wait $injector
	again=$?
	[ $again -eq 127 ] || status=$again
done

case $status in
0) echo "run-shard: shard $index/$count is done" ;;
1)
	is_over || exit 1
	echo "run-shard: shard $index/$count is done, with findings"
	;;
5) echo "run-shard: shard $index/$count is done; it failed no site" ;;
*) exit $status ;;
esac
