#!/bin/sh
# nfs.sh setup|run|cleanup: file operations on NFS 4.2 and 3, client and server on this machine, over loopback, on ext4.
. "$(dirname "$0")/common.sh"

state=/var/lib/nfs

wait_for() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.25
	done
	return 1
}

# background NAME COMMAND...: its pid is kept, so that cleanup ends what setup started and nothing else
background() {
	name=$1
	shift
	"$@" >"$top/$name.log" 2>&1 &
	echo $! >"$top/$name.pid"
}

setup() {
	make_disk export 96M mkfs.ext4 -q -F
	mkdir -p "$top/export/share" "$top/v4" "$top/v3" "$state" /run/rpcbind
	chmod 777 "$top/export/share"
	ip link set lo up 2>/dev/null || ifconfig lo 127.0.0.1 up

	# The state of an earlier boot would only make the server wait for its clients.
	mount -t tmpfs injector-nfs "$state" || die "can't mount on $state"
	mkdir -p "$state/rpc_pipefs" "$state/v4recovery" "$state/sm" "$state/sm.bak"
	touch "$state/etab" "$state/rmtab" "$state/state"
	mount -t rpc_pipefs rpc_pipefs "$state/rpc_pipefs" || die "can't mount rpc_pipefs"
	mounted /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd || die "can't mount /proc/fs/nfsd"

	background rpcbind rpcbind -f -w
	wait_for test -S /run/rpcbind.sock || die "rpcbind does not start: $(cat "$top/rpcbind.log")"
	exportfs -i -o rw,no_root_squash,no_subtree_check,insecure,fsid=0 "127.0.0.1:$top/export/share" || die "can't export"
	background mountd rpc.mountd -F

	# NFSv4 lets nobody open anything until its grace period is over: ten seconds are the least, and it can be ended.
	echo 10 >/proc/fs/nfsd/nfsv4leasetime
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	rpc.nfsd 4 || die "nfsd does not start"
	echo Y >/proc/fs/nfsd/v4_end_grace 2>/dev/null

	# Soft: a request whose reply is lost fails after some seconds instead of hanging the workload.
	options=soft,timeo=10,retrans=2
	wait_for mount.nfs 127.0.0.1:/ "$top/v4" -o "vers=4.2,$options" || die "can't mount NFS 4.2: $(mount.nfs 127.0.0.1:/ "$top/v4" -o "vers=4.2,$options" 2>&1)"
	wait_for mount.nfs "127.0.0.1:$top/export/share" "$top/v3" -o "vers=3,nolock,$options" || die "can't mount NFS 3: $(mount.nfs "127.0.0.1:$top/export/share" "$top/v3" -o "vers=3,nolock,$options" 2>&1)"
	# The first open waits for the grace period, if that could not be ended.
	wait_for touch "$top/v4/ready" || die "can't make a file over NFS 4.2"
	rm -f "$top/v4/ready"
}

cleanup() {
	unmount "$top/v3"
	unmount "$top/v4"
	rpc.nfsd 0 2>/dev/null
	exportfs -ua 2>/dev/null
	for name in mountd rpcbind; do
		[ -f "$top/$name.pid" ] && kill "$(cat "$top/$name.pid")" 2>/dev/null
		rm -f "$top/$name.pid" "$top/$name.log"
	done
	unmount "$state/rpc_pipefs"
	grep -q "^injector-nfs $state " /proc/mounts && unmount "$state"
	remove_disk export
	rmdir "$top/v3" "$top/v4" 2>/dev/null
	return 0
}

case $1 in
setup) setup ;;
run)
	run_mix nfs-v4.2 "$top/v4"
	run_mix nfs-v3 "$top/v3"
	;;
cleanup) cleanup ;;
*) die "usage: $0 setup|run|cleanup" ;;
esac
