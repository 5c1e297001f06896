/* The few words in which CUDA C, OpenCL C and host C differ. It stands before every other text of this folder.
 *
 *   Q_DEVICE          a function that only the kernels call
 *   Q_KERNEL          a function that the outside calls, once for a whole batch
 *   Q_GLOBAL          memory that the caller filled: an address space of its own in OpenCL
 *   Q_ITEMS(i, n)     each item 0 .. n-1 once: shared out over a grid that may be smaller or larger than n; on the
 *                     host one after another
 *   Q_BIG_ENDIAN(x)   a word as loaded from memory, with its first byte as the highest; its own inverse
 *
 * Limits: kernels see memory as 32-bit words only, so a buffer is aligned to 4 bytes and its size divides by 4.
 * Nothing here allocates, recurses or calls a library, and every loop has a bound that the caller passes.
 */

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

typedef unsigned int u32;
typedef unsigned long long u64;
#define Q_DEVICE static __device__ __forceinline__
#define Q_KERNEL extern "C" __global__ void
#define Q_GLOBAL
#define Q_ITEMS(i, n) \
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (u64)gridDim.x * blockDim.x)

#elif defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)

typedef uint u32;
typedef ulong u64;
#define Q_DEVICE static inline
#define Q_KERNEL __kernel void
#define Q_GLOBAL __global
#define Q_ITEMS(i, n) for (u64 i = get_global_id(0); i < (n); i += get_global_size(0))

#else

typedef unsigned int u32;
typedef unsigned long long u64;
#define Q_DEVICE static inline
#define Q_KERNEL void
#define Q_GLOBAL
#define Q_ITEMS(i, n) for (u64 i = 0; i < (n); i += 1)

#endif

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define Q_BIG_ENDIAN(x) (x)
#else
#define Q_BIG_ENDIAN(x) q_swapped(x)
#endif

Q_DEVICE u32 q_swapped(u32 x)
{
    return x << 24 | (x & 0xff00u) << 8 | (x >> 8 & 0xff00u) | x >> 24;
}

/* A compiler on which a word is not 32 bits, or a double word not 64, is refused here. */
typedef char q_word_is_32_bits[sizeof(u32) == 4 ? 1 : -1];
typedef char q_double_word_is_64_bits[sizeof(u64) == 8 ? 1 : -1];
