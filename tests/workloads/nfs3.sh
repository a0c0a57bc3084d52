#!/bin/sh
# nfs3.sh [VERB]: nfs.sh with one version.
versions=nfs3
. "$(dirname "$0")/nfs.sh"
