#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real unshare

g=/sys/fs/cgroup
case $1 in
setup) mountpoint -q $g || mount -t cgroup2 c $g; for c in $(cat $g/cgroup.controllers); do echo +$c >$g/cgroup.subtree_control; done; : ;;
run)
	s=0
	mkdir $g/w || s=1
	for c in $(cat $g/w/cgroup.controllers); do echo +$c >$g/w/cgroup.subtree_control || s=1; done
	mkdir $g/w/x || s=1
	echo 10M >$g/w/x/memory.high; echo 20 >$g/w/x/pids.max; echo "50000 100000" >$g/w/x/cpu.max
	echo 0 >$g/w/x/cpuset.cpus; echo root >$g/w/x/cpuset.cpus.partition
	sh -c "echo \$\$ >$g/w/x/cgroup.procs; exec true" || s=1
	rmdir $g/w/x $g/w || s=1
	unshare -m true || s=1; unshare -u true || s=1; unshare -i true || s=1; unshare -p -f true || s=1; unshare -C true || s=1; unshare -U -r true || s=1; unshare -T true || s=1
	exit $s
	;;
cleanup) rmdir $g/w/x $g/w 2>/dev/null; : ;;
esac
