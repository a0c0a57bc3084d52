#!/bin/sh
# nfs-xfs.sh setup|run|cleanup: NFS over loopback on ext4, and XFS.
. "$(dirname "$0")/common.sh"

case $1 in
setup)
	sh "$here/xfs.sh" setup && sh "$here/nfs.sh" setup
	;;
run)
	sh "$here/nfs.sh" run
	sh "$here/xfs.sh" run
	;;
cleanup)
	sh "$here/nfs.sh" cleanup
	sh "$here/xfs.sh" cleanup
	;;
*) die "usage: $0 setup|run|cleanup" ;;
esac
