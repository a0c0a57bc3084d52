#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
t=/sys/kernel/tracing
case $1 in
setup) mountpoint -q $t || mount -t tracefs t $t; [ -e $t/kprobe_events ] ;;
run)
	s=0
	cd $t
	w() { echo "$1" >>$2 || s=1; }
	mkdir instances/i || s=1
	w 64 instances/i/buffer_size_kb
	w 1 instances/i/events/sched/sched_switch/enable
	w 0 instances/i/events/sched/sched_switch/enable
	rmdir instances/i || s=1
	w "p:g/k vfs_fsync a=%di b=+0(%di):u64" kprobe_events
	w "r:g/r vfs_fsync ret=\$retval" kprobe_events
	w 1 events/g/k/enable
	w "a > 5 && b < 7 || comm == foo*" events/g/k/filter
	w 0 events/g/k/filter
	w "hist:keys=common_pid,a:vals=b:sort=b:size=64:name=h" events/g/k/trigger
	w "!hist:keys=common_pid,a:vals=b:sort=b:size=64:name=h" events/g/k/trigger
	w "stacktrace:5" events/g/k/trigger
	w "!stacktrace" events/g/k/trigger
	w "enable_event:sched:sched_switch:1" events/g/k/trigger
	w "!enable_event:sched:sched_switch" events/g/k/trigger
	w 0 events/g/k/enable
	w "e:g/e g/k c=\$a" dynamic_events
	w "-:g/e" dynamic_events
	w "-:g/k" kprobe_events
	w "-:g/r" kprobe_events
	w "p:g/u /usr/bin/busybox:0x1000" uprobe_events
	w 1 events/g/u/enable
	w 0 events/g/u/enable
	w "-:g/u" uprobe_events
	w "syn u64 lat; pid_t pid; char c[16]" synthetic_events
	w "hist:keys=next_pid:ts0=common_timestamp.usecs if next_comm==\"x\"" events/sched/sched_switch/trigger
	w "hist:keys=prev_pid:lat=common_timestamp.usecs-\$ts0:onmatch(sched.sched_switch).syn(\$lat,prev_pid,prev_comm)" events/sched/sched_switch/trigger
	w "!hist:keys=prev_pid:lat=common_timestamp.usecs-\$ts0:onmatch(sched.sched_switch).syn(\$lat,prev_pid,prev_comm)" events/sched/sched_switch/trigger
	w "!hist:keys=next_pid:ts0=common_timestamp.usecs if next_comm==\"x\"" events/sched/sched_switch/trigger
	w "!syn" synthetic_events
	w 'vfs_fsync*' set_ftrace_filter
	w function current_tracer
	w nop current_tracer
	w 'vfs_fsync:traceoff' set_ftrace_filter
	w '!vfs_fsync:traceoff' set_ftrace_filter
	echo >set_ftrace_filter || s=1
	w $$ set_event_pid
	echo >set_event_pid || s=1
	w 1 snapshot
	w 0 snapshot
	exit $s
	;;
cleanup)
	cd $t
	echo nop >current_tracer; echo >set_ftrace_filter; echo >set_event_pid; rmdir instances/i
	for e in events/g/k events/g/u events/sched/sched_switch; do echo 0 >$e/enable; grep -h . $e/trigger | while read -r l; do echo "!${l%% \[*}" >>$e/trigger; done; done
	echo "-:g/e" >>dynamic_events; echo "-:g/k" >>kprobe_events;  echo "-:g/r" >>kprobe_events; echo "-:g/u" >>uprobe_events; echo '!syn' >>synthetic_events
	echo 0 >snapshot
	: ;;
esac 2>/dev/null
