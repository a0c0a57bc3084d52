//! Lists the sources of the module injector_hooks, which the program carries: whatever make finds in `module/`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let module = fs::canonicalize(PathBuf::from(manifest).join("../module"))?;
    println!("cargo::rerun-if-changed={}", module.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&module)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let source = matches!(name.as_str(), "Kbuild" | "Makefile") || name.ends_with(".c") || name.ends_with(".h");
        // What a build by hand leaves.
        if source && !name.ends_with(".mod.c") {
            names.push(name);
        }
    }
    names.sort();
    let mut list = String::from("&[");
    for name in names {
        let path = module.join(&name);
        println!("cargo::rerun-if-changed={}", path.display());
        let _ = write!(list, "({name:?}, include_str!({path:?})), ");
    }
    list.push(']');
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(PathBuf::from(out).join("module.rs"), list)
}
