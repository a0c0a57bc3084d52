#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip

case $1 in
setup)
	for m in af_key vsock vsock_loopback nf_conntrack nf_nat nf_tables nf_log_syslog nfnetlink_log nfnetlink_queue \
		nfnetlink_osf nf_conntrack_netlink ip_vs ip_vs_ftp ip_set nf_synproxy_core xt_hashlimit xt_recent \
		ip6table_filter ip6table_mangle ip6table_nat ip6table_raw iptable_filter iptable_nat arptable_filter \
		ebtable_filter br_netfilter bridge bonding vxlan geneve gre ip_gre ip6_gre sit ipip ip6_tunnel ip_vti ip6_vti \
		fou fou6 ila xfrm_user xfrm_interface l2tp_core l2tp_ip l2tp_ip6 l2tp_eth mpls_router 8021q tipc sctp kcm \
		openvswitch rds rds_tcp phonet sunrpc auth_rpcgss nfsd lockd nfs nfsv4 cifs pktgen af_packet_diag \
		nf_conntrack_bridge nf_flow_table wireguard team macvlan ipvlan veth dummy ifb vrf nlmon tun tls \
		act_bpf act_connmark act_csum act_ct act_gact act_gate act_ife act_mirred act_mpls act_nat act_pedit act_police \
		act_sample act_simple act_skbedit act_skbmod act_tunnel_key act_vlan sch_ingress cls_flower psample netconsole \
		ceph rbd rpcrdma smc can can-raw can-bcm can-gw can-j1939 nfc ieee802154 rxrpc pppoe ppp_generic sch_teql \
		iptable_raw iptable_security iptable_mangle ip6table_security ksmbd blocklayoutdriver; do
		modprobe -q $m
	done
	:
	;;
run)
	unshare -n true && unshare -n ip link set lo up
	;;
cleanup) : ;;
esac
