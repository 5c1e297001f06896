//! Makes Rust of `proto/quipu/v1/ledger.proto`, and the descriptors that reflection gives; no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

const ROOT: &str = "proto";
const FILE: &str = "quipu/v1/ledger.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}/{FILE}");
    // With the comments: who asks by reflection gets the documentation, too.
    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_source_info(true).include_imports(true).open_file(FILE)?;
    let files = compiler.file_descriptor_set();
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo gives OUT_DIR")?);
    std::fs::write(folder.join("ledger.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(files)?;
    Ok(())
}
