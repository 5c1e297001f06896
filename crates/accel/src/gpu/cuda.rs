//! The kernels on an NVIDIA GPU, compiled when the process first asks for it.
//!
//! Nothing of CUDA is needed to build: the driver (`libcuda`) and the compiler (NVRTC) are the machine's own, loaded
//! by name, and both are asked for every function before `cudarc` calls one, since it panics where one is missing.
//!
//! ```text
//!  driver there? -> devices? -> NVRTC there? -> compile for device 0 -> load -> [Cuda]
//!      each "no" is OpenError::Absent, and the processor does the work
//! ```
//! # Invariants
//! * C1 The compiler makes machine code for the device's own architecture, so that no driver has to translate the
//!   intermediate code of a compiler newer than itself. Only for a device newer than the compiler is it intermediate.
//! * C2 Results are copied to the caller after the last kernel has ended without an error.
//! # Limits
//! One device, the first; one stream, so batches follow each other. Memory is reserved for each batch. To start takes
//! the driver's time and a second or two of compiling; the machine code is not kept. A device that hangs is waited for.
#![expect(
    unsafe_code,
    reason = "calls the CUDA driver and launches kernels; lengths are checked before"
)]

use std::{
    ffi::{CString, c_int, c_uint},
    fmt,
    sync::{Arc, OnceLock},
};

use cudarc::{
    driver::{
        self, CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig,
        PushKernelArg,
    },
    nvrtc::{
        Ptx,
        result::{self as compiler, NvrtcError},
        sys,
    },
};

use crate::BatchBackend;

use super::{BatchError, Prices, SHA256_TEXT, Shape, check_size, count_of, pack};

/// Threads of one block. The kernels use no shared memory, so this only has to fill whole schedulers.
const BLOCK_SIZE: u32 = 128;

/// Most blocks of one launch; the kernels' loops take what is beyond.
const BLOCK_COUNT_MAX: u32 = 1 << 16;

/// About the most hashes of one launch of chains: a fraction of a second on any device, so that no watchdog of a
/// display stops it.
const LAUNCH_HASH_COUNT: u64 = 1 << 31;

/// Most steps of one launch of chains, however few they are.
const LAUNCH_STEP_COUNT_MAX: u64 = 1 << 18;

/// A guess until [`Cuda::calibrate`] measures: far below what any device of the last ten years does.
const PRICES: Prices =
    Prices { call_ns: 1_000_000, byte_ps: 500, step_ps: 1_000, step_serial_ps: 10_000_000 };

/// What `cudarc`, and inside its library the compiler, call in the driver.
const DRIVER_FUNCTIONS: &[&str] = &[
    "cuInit",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGetExportTable",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFree_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamSynchronize",
];

/// What `cudarc` and we call in the compiler.
const COMPILER_FUNCTIONS: &[&str] = &[
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetPTX",
    "nvrtcGetPTXSize",
    "nvrtcGetProgramLog",
    "nvrtcGetProgramLogSize",
    "nvrtcGetSupportedArchs",
];

/// Why there is no [`Cuda`].
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The machine lacks something that it takes.
    #[error("no {missing} on this machine")]
    Absent {
        /// What is not there.
        missing: &'static str,
    },
    /// The compiler on the machine refused the kernels.
    #[error("the kernels do not compile: {log}")]
    Compiler {
        /// What the compiler said.
        log: String,
    },
    /// The driver reported an error.
    #[error(transparent)]
    Driver(#[from] BatchError),
}

/// The kernels on the first NVIDIA GPU of the machine.
pub struct Cuda {
    device: String,
    prices: OnceLock<Prices>,
    stream: Arc<CudaStream>,
    chains: CudaFunction,
    nodes: CudaFunction,
    many: CudaFunction,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Cuda {
    /// The first device, with the kernels compiled and loaded; or what is missing.
    pub fn open() -> Result<Self, OpenError> {
        start_driver()?;
        let context = CudaContext::new(0).map_err(driver_error("cuDevicePrimaryCtxRetain"))?;
        // SAFETY: events order the work of several streams; here is one.
        unsafe { context.disable_event_tracking() };
        let device = context.name().map_err(driver_error("cuDeviceGetName"))?;
        let (major, minor) =
            context.compute_capability().map_err(driver_error("cuDeviceGetAttribute"))?;
        let image = compile(major.saturating_mul(10).saturating_add(minor))?;
        let module = context.load_module(image).map_err(driver_error("cuModuleLoadData"))?;
        let function =
            |name| module.load_function(name).map_err(driver_error("cuModuleGetFunction"));
        Ok(Self {
            device,
            prices: OnceLock::new(),
            stream: context.default_stream(),
            chains: function("quipu_sha256_chains")?,
            nodes: function("quipu_sha256_nodes")?,
            many: function("quipu_sha256_many")?,
        })
    }

    /// What the driver calls the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    fn upload<T: driver::DeviceRepr>(&self, items: &[T]) -> Result<CudaSlice<T>, BatchError> {
        self.stream.clone_htod(items).map_err(driver_error("cuMemcpyHtoD"))
    }

    fn reserve(&self, out: &[[u8; 32]]) -> Result<CudaSlice<u8>, BatchError> {
        let size = out.as_flattened().len();
        // SAFETY: a kernel writes every byte before any is read.
        unsafe { self.stream.alloc(size) }.map_err(driver_error("cuMemAlloc"))
    }

    /// Wait for the kernels and fetch their results.
    fn download(&self, hashes: &CudaSlice<u8>, out: &mut [[u8; 32]]) -> Result<(), BatchError> {
        self.stream.synchronize().map_err(driver_error("cuStreamSynchronize"))?;
        let copied = self.stream.memcpy_dtoh(hashes, out.as_flattened_mut());
        copied.and_then(|()| self.stream.synchronize()).map_err(driver_error("cuMemcpyDtoH"))
    }
}

impl BatchBackend for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn predict_ns(&self, shape: &Shape) -> Option<u64> {
        Some(self.prices.get().unwrap_or(&PRICES).predict_ns(shape))
    }

    fn calibrate(&self, now_ns: &dyn Fn() -> u64) {
        if let Ok(prices) = Prices::measure(self, now_ns) {
            self.prices.get_or_init(|| prices);
        }
    }

    fn sha256_many(
        &self,
        prefix: &[u8],
        messages: &[&[u8]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
        let packed = pack(prefix, messages)?;
        if messages.is_empty() {
            return Ok(());
        }
        // A device has no memory of size 0; no kernel reads a word of an empty message.
        let bytes = if packed.bytes.is_empty() { &[0; 4] } else { packed.bytes.as_slice() };
        let words = self.upload(bytes)?;
        let places = self.upload(packed.places.as_flattened())?;
        let mut hashes = self.reserve(out)?;
        let count = count_of(messages);
        let mut launch = self.stream.launch_builder(&self.many);
        launch.arg(&words).arg(&places).arg(&mut hashes).arg(&count);
        // SAFETY: the arguments are those of the kernel; `places` has two words and `hashes` eight for each message,
        // and `pack` laid every place within `words`.
        unsafe { launch.launch(grid(count)) }.map_err(driver_error("cuLaunchKernel"))?;
        self.download(&hashes, out)
    }

    fn sha256_nodes(
        &self,
        prefix: u8,
        pairs: &[[[u8; 32]; 2]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        assert_eq!(pairs.len(), out.len(), "each pair has one place for its hash");
        check_size(Some(size_of_val(pairs)))?;
        if pairs.is_empty() {
            return Ok(());
        }
        let words = self.upload(pairs.as_flattened().as_flattened())?;
        let mut hashes = self.reserve(out)?;
        let (count, prefix) = (count_of(pairs), u32::from(prefix));
        let mut launch = self.stream.launch_builder(&self.nodes);
        launch.arg(&words).arg(&mut hashes).arg(&count).arg(&prefix);
        // SAFETY: the arguments are those of the kernel; `words` has sixteen words and `hashes` eight for each pair.
        unsafe { launch.launch(grid(count)) }.map_err(driver_error("cuLaunchKernel"))?;
        self.download(&hashes, out)
    }

    fn sha256_chains(
        &self,
        starts: &[[u8; 32]],
        count: u64,
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        assert_eq!(starts.len(), out.len(), "each start has one place for its end");
        check_size(Some(size_of_val(starts)))?;
        if starts.is_empty() {
            return Ok(());
        }
        let mut hashes = self.upload(starts.as_flattened())?;
        let chain_count = count_of(starts);
        let step_count_max =
            LAUNCH_HASH_COUNT.checked_div(chain_count).unwrap_or(1).clamp(1, LAUNCH_STEP_COUNT_MAX);
        let mut left = count;
        while left > 0 {
            let steps = left.min(step_count_max);
            let mut launch = self.stream.launch_builder(&self.chains);
            launch.arg(&mut hashes).arg(&chain_count).arg(&steps);
            // SAFETY: the arguments are those of the kernel; `hashes` has eight words for each chain.
            unsafe { launch.launch(grid(chain_count)) }.map_err(driver_error("cuLaunchKernel"))?;
            left = left.saturating_sub(steps);
        }
        self.download(&hashes, out)
    }
}

fn driver_error(call: &'static str) -> impl Fn(DriverError) -> BatchError {
    #[expect(clippy::as_conversions, reason = "an enumeration with the driver's own numbers")]
    move |error| BatchError::Device { call, code: error.0 as i64 }
}

fn compiler_error(error: NvrtcError) -> OpenError {
    OpenError::Compiler { log: error.to_string() }
}

fn grid(count: u64) -> LaunchConfig {
    let blocks = count.div_ceil(u64::from(BLOCK_SIZE)).clamp(1, u64::from(BLOCK_COUNT_MAX));
    let blocks = u32::try_from(blocks).unwrap_or(BLOCK_COUNT_MAX);
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK_SIZE, 1, 1), shared_mem_bytes: 0 }
}

/// Load the driver, and start it if it is whole and has a device.
fn start_driver() -> Result<(), OpenError> {
    // SAFETY: loads the driver's library as linking to it would, and looks functions up without calling them.
    let present = unsafe {
        driver::sys::is_culib_present()
            && DRIVER_FUNCTIONS.iter().all(|name| {
                driver::sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok()
            })
    };
    if !present {
        return Err(OpenError::Absent { missing: "NVIDIA driver" });
    }
    // SAFETY: `cuInit(flags)` with the only flags there are. Its answer is taken as a number: a stub library and a
    // newer driver may give numbers that no enumeration has.
    let code = unsafe {
        let init = driver::sys::culib().get::<unsafe extern "C" fn(c_uint) -> c_int>(b"cuInit");
        init.map_or(c_int::MAX, |init| init(0))
    };
    if code != 0 {
        return Err(BatchError::Device { call: "cuInit", code: code.into() }.into());
    }
    match CudaContext::device_count().map_err(driver_error("cuDeviceGetCount"))? {
        ..=0 => Err(OpenError::Absent { missing: "NVIDIA device" }),
        _ => Ok(()),
    }
}

/// A program of the compiler, which holds memory until it is given back.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program` and not given back before.
        let destroyed = unsafe { compiler::destroy_program(self.0) };
        debug_assert!(destroyed.is_ok(), "a program that was made can be given back");
    }
}

/// The kernels for a device of compute capability `device`, as `10 × major + minor`.
fn compile(device: c_int) -> Result<Ptx, OpenError> {
    let architecture = architecture(device, &architectures()?)
        .ok_or(OpenError::Absent { missing: "NVRTC for the architecture of the device" })?;
    let text = CString::new(SHA256_TEXT)
        .map_err(|_| OpenError::Compiler { log: "the text has a byte of value 0".to_owned() })?;
    let created = compiler::create_program(&text, Some(c"sha256.cu"));
    let program = Program(created.map_err(compiler_error)?);
    let option = format!("--gpu-architecture={architecture}");
    // SAFETY: the program lives until the end of this function, and so does its text.
    if let Err(error) = unsafe { compiler::compile_program(program.0, &[option]) } {
        // SAFETY: as above; a log is there after a compilation.
        let log = unsafe { compiler::get_program_log(program.0) }.map_err(compiler_error)?;
        let log = log.iter().flat_map(|c| c.to_ne_bytes()).filter(|byte| *byte != 0).collect();
        let log = String::from_utf8(log).unwrap_or_default();
        return Err(OpenError::Compiler { log: format!("{error}: {log}") });
    }
    if architecture.starts_with("sm_") {
        return machine_code(&program).map_err(compiler_error);
    }
    // SAFETY: as above.
    let code = unsafe { compiler::get_ptx(program.0) }.map_err(compiler_error)?;
    Ok(Ptx::from_binary(code.iter().flat_map(|c| c.to_ne_bytes()).collect()))
}

fn machine_code(program: &Program) -> Result<Ptx, NvrtcError> {
    let mut size = 0;
    // SAFETY: the program was compiled for a real architecture.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &raw mut size) }.result()?;
    let mut code = vec![0_u8; size];
    // SAFETY: `code` has the size that was just asked for.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()) }.result()?;
    Ok(Ptx::from_binary(code))
}

/// The architectures that the machine's compiler knows, if it has one.
fn architectures() -> Result<Vec<c_int>, OpenError> {
    // SAFETY: loads the compiler's library as linking to it would, and looks functions up without calling them.
    let present = unsafe {
        sys::is_culib_present()
            && COMPILER_FUNCTIONS
                .iter()
                .all(|name| sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok())
    };
    if !present {
        return Err(OpenError::Absent { missing: "NVRTC" });
    }
    let mut count = 0;
    // SAFETY: writes the one number.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }.result().map_err(compiler_error)?;
    let mut known = vec![0; usize::try_from(count).unwrap_or_default()];
    // SAFETY: writes as many numbers as it just said.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result().map_err(compiler_error)?;
    Ok(known)
}

/// What to compile for: the device itself, or the newest before it in intermediate code (C1).
fn architecture(device: c_int, known: &[c_int]) -> Option<String> {
    let newest = known.iter().filter(|known| **known <= device).max()?;
    Some(if *newest == device { format!("sm_{device}") } else { format!("compute_{newest}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gets_its_own_code_and_a_newer_one_the_newest_that_it_translates() {
        let known = [50, 75, 80, 90];
        let chosen = |device| architecture(device, &known);
        assert_eq!(chosen(90).as_deref(), Some("sm_90"));
        assert_eq!(chosen(120).as_deref(), Some("compute_90"));
        assert_eq!(chosen(86).as_deref(), Some("compute_80"));
        assert_eq!(chosen(35), None);
    }

    #[test]
    fn nvrtc_compiles_the_text_where_it_is_even_without_a_device() {
        let known = match architectures() {
            Ok(known) => known,
            Err(absent) => return println!("SKIPPED nvrtc: {absent}"),
        };
        let (oldest, newest) = (known.iter().min().copied(), known.iter().max().copied());
        for device in oldest.into_iter().chain(newest).chain([10_000]) {
            assert!(compile(device).is_ok(), "{device}: {:?}", compile(device));
        }
        println!("nvrtc: compiled for {known:?}");
    }

    #[test]
    fn a_grid_covers_every_count_with_the_loop_of_the_kernels() {
        for (count, blocks) in [(0, 1), (1, 1), (128, 1), (129, 2), (u64::MAX, BLOCK_COUNT_MAX)] {
            assert_eq!(grid(count).grid_dim, (blocks, 1, 1), "{count}");
        }
    }
}
