//! Compiles the eBPF object that is embedded into the binary.

use std::{env, path::PathBuf, process::exit};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.parent().expect("the crate lies in the workspace");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for path in ["injector-ebpf", "injector-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-env-changed=XDG_CACHE_HOME");

    let object = injector_build::Toolchain::find()
        .map_err(|missing| missing.to_string())
        .and_then(|toolchain| toolchain.build_object(workspace, &out).map_err(|error| error.to_string()));
    match object {
        Ok(path) => println!("cargo::rustc-env=INJECTOR_EBPF_OBJECT={}", path.display()),
        Err(error) => {
            for line in error.lines() {
                println!("cargo::error={line}");
            }
            exit(1);
        }
    }
}
