#!/bin/sh
# An exact number of allocations fails, in the system call that was named; then none fails any more.
cd "$(dirname "$0")" || exit 1
. ./common.sh

wanted=10
calls=40

begin
echo "1..4"
# The command counts the calls that fail; each has one failure or more.
"$injector" --hook slab --syscall mkdir,mkdirat --times "$wanted" --format json --output "$work/run.jsonl" -- sh -c '
	i=0 failed=0
	while [ "$i" -lt "$1" ]; do
		mkdir "$0/$i" 2>/dev/null || failed=$((failed + 1))
		i=$((i + 1))
	done
	echo "$failed" >"$0/failed"
' "$work" "$calls" >"$work/run" 2>&1
status=$?
comment "$work/run"
test_result "$status" "the run and its command succeed"

count=$(grep -c '"type":"failure"' "$work/run.jsonl")
echo "# allocations that failed: $count"
[ "$count" -eq "$wanted" ]
test_result $? "exactly $wanted allocations fail"

count=$(cat "$work/failed")
echo "# system calls that failed: ${count:=0}"
[ "$count" -gt 0 ] && [ "$count" -le "$wanted" ]
test_result $? "system calls fail, no more than allocations do"

last=$((calls - 1))
[ -d "$work/$last" ] && mkdir "$work/afterwards"
test_result $? "the others succeed"
finish
