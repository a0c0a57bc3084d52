#!/bin/sh
# Reproduces: list_del corruption in defect_unwind_order
#
# injector sweep found it by failing allocations. This script needs no injector, only the kernel's own fault
# injection (Documentation/fault-injection): FAILSLAB, FAIL_PAGE_ALLOC, FAULT_INJECTION_DEBUG_FS and
# FAULT_INJECTION_STACKTRACE_FILTER (on x86-64 since Linux 6.2). Run it as root, in a machine that may crash.
#
#   sh SCRIPT [CMD…]     CMD: the workload, instead of that of the sweep
#   SKIP=N sh SCRIPT     leave N matching calls alone, and fail the next
#
# Exit status: 0 reproduced, 1 not reproduced, 2 something went wrong, 4 the kernel lacks something.
#
# Found on Linux 6.12.117 #1 SMP PREEMPT Sun Nov 22 19:52:43 UTC 2026, finding 38c2df0b of nfs.jsonl.
# what fails: slab site f0470d5fda2d720c
#   defect_unwind_order+0x5d [injector_defects]
#   injector_defects_write+0x38 [injector_defects]
#   full_proxy_write+0x4d
#   vfs_write+0xc0
#   ksys_write+0x5b
#   do_syscall_64+0x4c
#   entry_SYSCALL_64_after_hwframe+0x4b
id='38c2df0b'
title='list_del corruption in defect_unwind_order'
shows='log'
where='defect_unwind_order'
build='5f0f8b3c1d2e49a7b6c5d4e3f2a1908776655443'
points='failslab'
function=''
value=''
tasks='Y'
times='1'
setup='sh tests/workloads/nfs.sh setup'
cleanup='sh tests/workloads/nfs.sh cleanup'
[ $# -gt 0 ] || set -- 'sh' 'tests/workloads/nfs.sh' 'run'
arm_all() {
	arm failslab 200 "${SKIP:-0}" 'defect_unwind_order+0x5d [injector_defects]
injector_defects_write+0x38 [injector_defects]
full_proxy_write+0x4d' 'defect_unwind_order [injector_defects]
injector_defects_write [injector_defects]
full_proxy_write' '' ''
}

# Nothing below depends on the finding.

say() { echo "$0: $*" >&2; }
die() { say "$*"; exit 2; }
debug=/sys/kernel/debug
lacking=
lacks() { lacking="$lacking
  $1: $2"; }

# -- what this kernel must have
[ "$(id -u)" = 0 ] || die "must run as root"
[ -d $debug/failslab ] || [ -d $debug/fail_page_alloc ] || mount -t debugfs none $debug 2>/dev/null
for point in $points; do
	case $point in
	failslab) option=CONFIG_FAILSLAB ;;
	fail_page_alloc) option=CONFIG_FAIL_PAGE_ALLOC ;;
	fail_function) option=CONFIG_FAIL_FUNCTION ;;
	esac
	if [ ! -d "$debug/$point" ]; then
		lacks "$debug/$point" "$option, CONFIG_FAULT_INJECTION_DEBUG_FS"
	elif [ ! -e "$debug/$point/require-start" ]; then
		lacks "$debug/$point/require-start" "CONFIG_FAULT_INJECTION_STACKTRACE_FILTER"
	fi
done
[ -e /proc/self/make-it-fail ] || lacks /proc/self/make-it-fail CONFIG_FAULT_INJECTION
[ "$shows" != leak ] || [ -e $debug/kmemleak ] || lacks $debug/kmemleak CONFIG_DEBUG_KMEMLEAK
grep -qv '^0000000000000000' /proc/kallsyms || lacks "addresses in /proc/kallsyms" "CONFIG_KALLSYMS, sysctl kernel.kptr_restrict=0"
if [ -n "$lacking" ]; then
	say "SKIP: this kernel ($(uname -r)) lacks:$lacking"
	exit 4
fi
# The GNU build id is in /sys/kernel/notes: on the same build the same offsets are the same calls.
notes=$(od -An -v -tx1 /sys/kernel/notes 2>/dev/null | tr -d ' \n')
same=no
case $notes in *"${build:-none}"*) same=yes ;; esac

# -- addresses: 16 digits, low half by itself, since shells differ on numbers above 2^63
# add ADDRESS NUMBER
add() {
	high=${1%????????} low=$((0x${1#????????} + $2))
	[ $low -lt 4294967296 ] || { low=$((low - 4294967296)); high=$(printf %08x $((0x$high + 1))); }
	printf '%s%08x\n' "$high" "$low"
}

# ranges FUNCTION EXACT: START END of each function of that name; unless EXACT is yes, of its copies (.isra.0) too
ranges() {
	awk -v name="$1" -v exact="$2" '
		{ at = "x" $1; symbol = $3 }
		exact != "yes" { sub(/\..*/, "", symbol) }
		NR == FNR { if ($2 ~ /^[tTwW]$/ && symbol == name && $3 !~ /\.cold/) found[at] = "xg"; next }
		{ for (start in found) if (at > start && at < found[start]) found[start] = at }
		END { for (start in found) if (found[start] != "xg") print substr(start, 2), substr(found[start], 2) }
	' /proc/kallsyms /proc/kallsyms
}

# resolve EXACT LOOSE: sets start and end by the first of these places that this kernel has exactly once
resolve() {
	places=$2
	[ $same = no ] || places=$1
	start=
	while read -r place module; do
		[ -n "$place" ] || continue
		module=${module#[}
		[ -z "$module" ] || modprobe -q "${module%]}" 2>/dev/null
		set -- $(ranges "${place%%+*}" $same)
		[ $# = 2 ] || continue
		start=$1 end=$2
		if [ $same = yes ]; then
			start=$(add "$1" $((${place#*+}))) end=
			end=$(add "$start" 1)
		fi
		resolved=$place
		return 0
	done <<-EOF
	$places
	EOF
	return 1
}

put() { echo "$2" >"$debug/$point/$1" || die "can't write $2 to $debug/$point/$1"; }

disarm() {
	for point in $points; do
		put probability 0
		put require-start 0
		put require-end 0xffffffffffffffff
		put reject-start 0
		put reject-end 0
		put space 0
	done
	[ -z "$function" ] || echo "!$function" >$debug/fail_function/inject 2>/dev/null
}

# arm POINT SIZE SKIP EXACT LOOSE EXACT-REJECTED LOOSE-REJECTED: the SKIP calls before are left alone
arm() {
	point=$1
	put probability 0
	if [ "$point" = fail_function ]; then
		echo "$function" >"$debug/$point/inject" || die "can't inject into $function"
		echo "$value" >"$debug/$point/$function/retval" || die "can't set what $function returns"
	fi
	for option in ignore-gfp-wait cache-filter ignore-gfp-highmem; do
		[ ! -e "$debug/$point/$option" ] || put $option N
	done
	[ ! -e "$debug/$point/min-order" ] || put min-order 0
	exact=$4 loose=$5 exact_reject=$6 loose_reject=$7 skip=$3 size=$2
	resolve "$exact" "$loose" || die "this kernel has none of these functions exactly once:
$loose
Load their module, or boot the kernel that the finding is of"
	say "$point fails below $resolved ($start-$end)"
	put require-start 0x$start
	put require-end 0x$end
	if resolve "$exact_reject" "$loose_reject"; then
		say "$point spares what is below $resolved"
		put reject-start 0x$start
		put reject-end 0x$end
	fi
	put stacktrace-depth 32
	put task-filter $tasks
	put interval 1
	put verbose 1
	space=0
	[ "$skip" = 0 ] || space=$(((skip + 1) * size))
	put space $space
	put times "$times"
}

fire() {
	for point in $points; do put probability 100; done
}

# How many failures are left in all.
left() {
	total=0
	for point in $points; do total=$((total + $(cat $debug/$point/times))); done
	echo $total
}

# -- without injection first: it loads modules, and shows how long the workload takes
trap 'disarm 2>/dev/null' EXIT
trap 'exit 2' INT TERM HUP
log=$(mktemp) || die "can't make a temporary file"
now() { read -r up _ </proc/uptime; echo "${up%%.*}"; }
[ -z "$setup" ] || sh -c "$setup" || die "the setup failed: $setup"
began=$(now)
"$@" >"$log" 2>&1 || { cat "$log" >&2; die "the workload fails without injection: $*"; }
limit=$((3 * ($(now) - began) + ${LIMIT:-60}))
[ "$shows" != leak ] || { echo scan >$debug/kmemleak; echo clear >$debug/kmemleak; }
mark="reproduce $id $$"
echo "$mark" >/dev/kmsg

# -- with the failure
arm_all
armed=$(left)
fire
sh -c 'echo 1 >/proc/self/make-it-fail; exec "$@"' sh "$@" &
workload=$!
hung=
until=$(($(now) + limit))
while kill -0 $workload 2>/dev/null && [ -d /proc/$workload ]; do
	case $(cut -d ' ' -f 3 /proc/$workload/stat 2>/dev/null) in Z) break ;; esac
	if [ "$(now)" -ge $until ]; then
		hung=yes
		# What waits there, before it is killed.
		cat /proc/[0-9]*/stack 2>/dev/null >"$log"
		kill -9 $workload 2>/dev/null
		break
	fi
	sleep 1
done
status=137
[ -n "$hung" ] || { wait $workload; status=$?; }
failed=$((armed - $(left)))
disarm
again=0
# The sweep retries a system call that fails. Here the whole workload is done again, without a failure.
if [ -z "$hung" ] && [ $status != 0 ]; then
	[ -z "$cleanup" ] || sh -c "$cleanup"
	"$@"
	again=$?
fi
[ -z "$cleanup" ] || [ -n "$hung" ] || sh -c "$cleanup"

# -- what came of it
say "$failed of $armed failures were made; the workload ended with status $status"
if [ "$failed" = 0 ]; then
	say "not reproduced: the allocation was not reached, so nothing failed"
	exit 1
fi
reproduced=no
case $shows in
log)
	dmesg | sed -n "/$mark/,\$p" | grep -v 'FAULT_INJECTION' >"$log"
	heads='WARNING:|BUG:|Oops|UBSAN|KASAN|KCSAN|KFENCE|corruption|protection fault|refcount_t:|cut here|blocked for more|Busy inodes'
	grep -Eq "$heads" "$log" && grep -Fq -e "$where" "$log" && reproduced=yes
	;;
hang)
	[ -z "$hung" ] || { [ -n "$where" ] && ! grep -Fq -e "$where" "$log"; } || reproduced=yes
	;;
leak)
	# kmemleak takes no object for lost that is younger than five seconds.
	sleep 6
	echo scan >$debug/kmemleak
	echo scan >$debug/kmemleak
	cat $debug/kmemleak >"$log"
	grep -Fq -e "$where" "$log" && reproduced=yes
	;;
again)
	[ $again = 0 ] || reproduced=yes
	;;
esac
[ $reproduced = yes ] && { cat "$log"; say "reproduced: $title"; rm -f "$log"; exit 0; }
rm -f "$log"
say "not reproduced: $title"
exit 1
