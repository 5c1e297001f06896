//! Compile the kernels as host C, for the backend `host`: CI then executes the text that a GPU compiles.

fn main() {
    println!("cargo:rerun-if-changed=kernels");
    cc::Build::new().file("kernels/host.c").warnings_into_errors(false).compile("quipu_kernels");
}
