#!/bin/sh
# run.sh setup|run|cleanup: what workload.toml says.
. "${0%/*}/../lib/real.sh"
real ip

case $1 in
setup)
	modprobe -a veth bridge vxlan geneve bonding team macvlan macvtap ipvlan ipvtap vrf dummy ifb nlmon 8021q wireguard macsec gre \
		ip_gre ip6_gre sit ipip ip6_tunnel ip_vti ip6_vti xfrm_interface tun bareudp hsr batman-adv gtp vcan vxcan \
		team_mode_roundrobin team_mode_loadbalance mpls_router mpls_iptunnel netconsole eql 2>/dev/null
	ip netns add w 2>/dev/null || { mkdir -p /run/netns; ip netns add w; }
	ip -n w link set lo up
	;;
run)
	s=0
	i() { ip -n w "$@" 2>/dev/null || s=1; }
	i link add d0 type dummy
	i link set d0 up
	i addr add 10.0.0.1/24 dev d0
	i addr add fd00::1/64 dev d0
	i route add 10.1.0.0/16 via 10.0.0.2 dev d0
	i -6 route add fd01::/64 via fd00::2 dev d0
	i rule add from 10.2.0.0/16 table 100
	i neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev d0
	i link add v0 type veth peer name v1
	i link add b0 type bridge vlan_filtering 1
	i link set v0 master b0
	i link set b0 up
	i link add x0 type vxlan id 7 local 10.0.0.1 remote 10.0.0.2 dstport 4789 dev d0
	i link set x0 up
	i link add g0 type geneve id 7 remote 10.0.0.2
	i link add bo0 type bond mode 802.3ad
	i link set v1 master bo0
	i link add t0 type team
	i link add mv0 link d0 type macvlan mode bridge
	i link add mt0 link d0 type macvtap mode bridge
	i link del mv0
	i link del mt0
	i link add vr0 type vrf table 10
	i link set d0 master vr0
	i link add vl0 link d0 type vlan id 5
	i link add ms0 link d0 type macsec port 1 encrypt on
	i link add ifb7 type ifb
	i link add nl0 type nlmon
	i link add wg0 type wireguard
	i link set wg0 up
	i link add gr0 type gretap local 10.0.0.1 remote 10.0.0.2
	i link add gr1 type ip6gre local fd00::1 remote fd00::2
	i link add si0 type sit local 10.0.0.1 remote 10.0.0.2
	i link add ti0 type ipip local 10.0.0.1 remote 10.0.0.2
	i link add xf0 type xfrm dev d0 if_id 3
	i tuntap add dev tap0 mode tap
	i nexthop add id 1 via 10.0.0.2 dev d0
	i link set d0 mtu 1400
	for l in tap0 xf0 ti0 si0 gr1 gr0 wg0 nl0 ifb7 ms0 vl0 vr0 t0 bo0 g0 x0 b0 v0 d0; do i link del $l; done
	i rule del from 10.2.0.0/16 table 100
	exit $s
	;;
cleanup) ip netns del w; ip netns add w; ip -n w link set lo up; : ;;
esac
