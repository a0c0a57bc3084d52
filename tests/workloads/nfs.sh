#!/bin/sh
# nfs.sh [VERB]: NFS 4.2 and 3, client and server on this machine, over loopback, on ext4; common.sh says what the verbs
# do. nfs42.sh and nfs3.sh do one version each, and share the server's place: one at a time.
. "$(dirname "$0")/common.sh"
. "$here/mix.sh"

versions=${versions:-nfs42 nfs3}
# Nobody gets a lock in lockd's own grace period, 50 s, and lockd comes with version 3.
no_locks=
case $versions in
nfs42) label=nfs42 server_options="-N 3" ;;
nfs3) label=nfs3 server_options="-N 4" ;;
*) label=nfs server_options= no_locks=yes ;;
esac
server=$top/nfs-server
export=$server/export
state=/var/lib/nfs

# What the file operations need to know of a version: $name, $dir and the function attach.
select_version() {
	name=$1
	dir=$top/$name
	case $name in
	nfs42) source=127.0.0.1:/ options=vers=4.2 ;;
	nfs3) source=127.0.0.1:$export options=vers=3,nolock,mountproto=tcp ;;
	esac
	# Soft: a request whose reply is lost fails after some seconds instead of hanging the workload.
	options=$options,proto=tcp,soft,timeo=10,retrans=2,retry=0
}

attach() {
	mount.nfs "$source" "$dir" -o "$options"
}

# Server side copy where the server has it.
extra() {
	[ "$name" = nfs3 ] || step $real_cp "$mix/big" "$mix/clone"
}

run() {
	for version in $versions; do
		select_version "$version"
		# Of a run that was killed.
		[ -e "$dir" ] && detach
		step mkdir -p "$dir" && exercise
	done
	name=$label
	finish
}

undo() {
	for version in $versions; do
		select_version "$version"
		detach
	done
}

attach_all() {
	for version in $versions; do
		select_version "$version"
		mkdir -p "$dir" && attach || die "can't mount $name"
	done
}

mix() {
	for version in $versions; do
		select_version "$version"
		mix_write
		extra
		{ echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null
		mix_read
	done
	name=$label
	finish
}

detach() {
	mounted "$dir" && { umount -f "$dir" 2>/dev/null || umount -l "$dir"; }
	[ -d "$dir" ] && rmdir "$dir"
}

wait_for() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.2
	done
	return 1
}

# background NAME COMMAND...: its pid is kept, so that cleanup ends what setup started and nothing else
background() {
	program=$1
	shift
	"$@" </dev/null >"$server/$program.log" 2>&1 &
	echo $! >"$server/$program.pid"
}

ended() {
	! kill -0 "$1"
}

setup() {
	cleanup
	threads=0
	{ read -r threads </proc/fs/nfsd/threads; } 2>/dev/null
	[ "${threads:-0}" -eq 0 ] || die "this machine has an NFS server already"
	set_up_server || {
		cleanup
		return 1
	}
}

failed_to() {
	echo "$0: can't $*" >&2
	return 1
}

set_up_server() {
	mkdir -p "$export" "$state" /run/rpcbind
	truncate -s 96M "$server/disk.img" || failed_to "make $server/disk.img" || return
	mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$server/disk.img" || failed_to "mkfs.ext4" || return
	mount -t ext4 -o loop "$server/disk.img" "$export" || failed_to "mount $export" || return
	chmod 777 "$export"
	ip link set lo up 2>/dev/null || ifconfig lo 127.0.0.1 up

	# The state of an earlier boot would only make the server wait for its clients.
	mount -t tmpfs injector-nfs "$state" || failed_to "mount on $state" || return
	mkdir -p "$state/rpc_pipefs" "$state/v4recovery" "$state/sm" "$state/sm.bak"
	touch "$state/etab" "$state/rmtab" "$state/state"
	mount -t rpc_pipefs rpc_pipefs "$state/rpc_pipefs" || failed_to "mount rpc_pipefs" || return
	if ! mounted /proc/fs/nfsd; then
		mount -t nfsd injector-nfsd /proc/fs/nfsd || failed_to "mount /proc/fs/nfsd" || return
	fi

	background rpcbind rpcbind -f -w
	wait_for test -S /run/rpcbind.sock || failed_to "start rpcbind: $(cat "$server/rpcbind.log")" || return
	exportfs -i -o rw,no_root_squash,no_subtree_check,insecure,fsid=0 "127.0.0.1:$export" || failed_to "export" || return
	background rpc.mountd rpc.mountd -F

	# Without it, kernels that leave the clients to nfsdcld look for it for a second, and can't end the grace period.
	if ! [ -e /proc/fs/nfsd/nfsv4recoverydir ] && command -v nfsdcld >/dev/null; then
		mkdir -p "$state/nfsdcld"
		background nfsdcld nfsdcld -F -p "$state/rpc_pipefs" -s "$state/nfsdcld"
		wait_for test -s "$state/nfsdcld/main.sqlite"
	fi

	# NFSv4 lets nobody open anything until its grace period is over: ten seconds are the least, and it can be ended.
	echo 10 >/proc/fs/nfsd/nfsv4leasetime
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	# rpcbind's socket can be there before it listens, and be that of an earlier one: nfsd can't register then.
	wait_for rpc.nfsd $server_options 4 || failed_to "start nfsd: $(rpc.nfsd $server_options 4 2>&1)" || return
	{ echo Y >/proc/fs/nfsd/v4_end_grace; } 2>/dev/null

	for version in $versions; do
		select_version "$version"
		mkdir -p "$dir"
		wait_for attach || failed_to "mount $name: $(attach 2>&1)" || return
		# The first open waits for the grace period, if that could not be ended.
		wait_for touch "$dir/ready" || failed_to "make a file over $name" || return
		rm "$dir/ready"
		umount "$dir" || failed_to "unmount $dir" || return
	done
}

cleanup() {
	for version in nfs3 nfs42; do
		select_version "$version"
		detach
	done
	if [ -d "$server" ]; then
		rpc.nfsd 0 2>/dev/null
		exportfs -ua 2>/dev/null
		for program in nfsdcld rpc.mountd rpcbind; do
			[ -f "$server/$program.pid" ] || continue
			read -r pid <"$server/$program.pid"
			read -r running <"/proc/$pid/comm" && [ "$running" = "$program" ] && kill "$pid" && wait_for ended "$pid"
		done 2>/dev/null
	fi
	unmount "$state/rpc_pipefs"
	grep -q "^injector-nfs $state " /proc/mounts && unmount "$state"
	grep -q "^injector-nfsd " /proc/mounts && unmount /proc/fs/nfsd
	# The server lets go of its files a little later.
	mounted "$export" && { wait_for umount "$export" || unmount "$export"; }
	detach_loop "$server/disk.img"
	status=$?
	mounted "$export" || rm -rf "$server"
	[ -d "$top" ] && rmdir "$top" 2>/dev/null
	return $status
}

verb "$1"
