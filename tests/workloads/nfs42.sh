#!/bin/sh
# nfs42.sh [VERB]: nfs.sh with one version.
versions=nfs42
. "$(dirname "$0")/nfs.sh"
