//! `cargo xtask build-ebpf`: compiles the eBPF programs alone.

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::setup;

#[derive(Debug, Args)]
pub struct BuildEbpf {}

impl BuildEbpf {
    pub fn run(&self) -> Result<()> {
        let object = setup::toolchain()?.build_object(process::workspace(), &process::target_dir())?;
        println!("{}", object.display());
        Ok(())
    }
}
