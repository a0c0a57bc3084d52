#!/bin/sh
# run-demo.sh OPTIONS...: runs the injector with these options while nfs-xfs.sh works; what the injector shows is shown,
# and its exit status is this one's. Without a time or a budget of its own it ends with the workload.
. "$(dirname "$0")/common.sh"

log=/tmp/injector-demo.$$
sh "$here/nfs-xfs.sh" mount || {
	sh "$here/nfs-xfs.sh" cleanup
	die "the workload's file systems can't be mounted"
}

injector "$@" 2>"$log" &
injector=$!
waited=0
until grep -q '^injector: armed' "$log" 2>/dev/null; do
	# Not armed, and gone: bad options, or something is missing. It said so.
	kill -0 $injector 2>/dev/null || break
	waited=$((waited + 1))
	[ $waited -gt 600 ] && break
	sleep 0.1
done
cat "$log" >&2
shown=$(wc -l <"$log")
if kill -0 $injector 2>/dev/null; then
	# Steps fail, and that is what it is for; but under injection the shell itself may fail, and then another try costs
	# nothing. A workload takes a second or two under emulation; one that takes this long waits for a reply that was
	# never sent.
	work() {
		timeout -s KILL "${INJECTOR_WORKLOAD_LIMIT:-90}" sh "$here/nfs-xfs.sh" mix
	}
	work || [ $? -eq 1 ] || work
	kill -INT $injector 2>/dev/null
fi
wait $injector
status=$?
tail -n +$((shown + 1)) "$log" >&2
rm -f "$log"
sh "$here/nfs-xfs.sh" cleanup
exit $status
