# Sourced by workloads. busybox's shell prefers its own applets to programs of the same name, which do more.

# real NAME...: from here on these names are the programs
real() {
	for real_name in "$@"; do
		for real_place in /usr/sbin /usr/bin; do
			real_path=$real_place/$real_name
			if [ -x "$real_path" ] && [ "$(readlink "$real_path")" != busybox ]; then
				eval "$real_name() { $real_path \"\$@\"; }"
				break
			fi
		done
	done
}
