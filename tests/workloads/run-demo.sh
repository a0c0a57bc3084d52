#!/bin/sh
# run-demo.sh OPTIONS...: runs the injector with these options while nfs-xfs.sh works; what the injector shows is shown,
# and its exit status is this one's. Without a time or a budget of its own it ends with the workload.
. "$(dirname "$0")/common.sh"

log=/tmp/injector-demo.$$
sh "$here/nfs-xfs.sh" setup || {
	sh "$here/nfs-xfs.sh" cleanup
	die "the workload can't be set up"
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
	# Under injection the shell may be what fails: another try costs nothing.
	sh "$here/nfs-xfs.sh" run || sh "$here/nfs-xfs.sh" run
	kill -INT $injector 2>/dev/null
fi
wait $injector
status=$?
tail -n +$((shown + 1)) "$log" >&2
rm -f "$log"
sh "$here/nfs-xfs.sh" cleanup
exit $status
