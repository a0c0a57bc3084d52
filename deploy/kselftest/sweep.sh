#!/bin/sh
# Fails every allocation site that a workload reaches, each once; a test for each. A finding is a test that fails.
#
# sweep.sh [CMD…]: the workload; without one, a few operations on files. kselftest's runner takes it from the environment:
#   KSELFTEST_SWEEP_SH_ARGS="sh /opt/workloads/ext4.sh run"
# Findings that known.txt beside this file lists do not fail (see --list and --known of injector sweep).
# INJECTOR_RESULTS=DIR keeps the journal there.
cd "$(dirname "$0")" || exit 1
. ./common.sh

begin
if [ $# -eq 0 ]; then
	set -- sh -c 'mkdir "$0" && echo text >"$0/a" && mv "$0/a" "$0/b" && cat "$0/b" && rm -r "$0"' "$work/files"
fi
set -- -- "$@"
if [ -f known.txt ]; then
	set -- --known known.txt "$@"
fi
# Stops before the runner's time is over. Kernel threads work for others, too; kmemleak's scans take minutes in emulated guests.
"$injector" sweep --journal "$work/sweep.jsonl" --ktap --no-kthreads --leaks off --budget 5m --cleanup "rm -rf '$work/files'" \
	"$@" >"$work/ktap" 2>"$work/said"
status=$?
if [ -n "${INJECTOR_RESULTS:-}" ] && [ -f "$work/sweep.jsonl" ]; then
	cp "$work/sweep.jsonl" "$INJECTOR_RESULTS/sweep.jsonl"
fi
# The header is there already.
sed 1d "$work/ktap"
case $status in
0) exit "$KSFT_PASS" ;;
1) exit "$KSFT_FAIL" ;;
3)
	comment "$work/said"
	skip_all "$(head -n 1 "$work/said")"
	;;
*)
	# Its codes are not kselftest's: 4 is a sweep that was interrupted.
	comment "$work/said"
	bail_out "injector sweep ended with $status"
	;;
esac
