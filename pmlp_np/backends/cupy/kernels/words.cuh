// Words that all kernels share: whole numbers, the bits of numbers, vectors of four numbers, the halving tree.
//
// Compile with --fmad=false --ftz=true --prec-div=true --prec-sqrt=true: then every operation is one of IEEE 754, and a
// multiply-add is fused only where the text says fma. The text also compiles as C++ for the host (see the tests'
// emulation), where DEVICE and what CUDA declares are defined before it.
typedef long long int64;
typedef unsigned long long uint64;
#ifndef DEVICE
#define DEVICE __device__ __forceinline__
// The argument of a kernel: in constant memory, so that what it says is read without a load and without a register.
#define JOBS const __grid_constant__ Jobs jobs
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) char name[]
#endif

#ifdef __CUDA_ARCH__
DEVICE int bits_of(const float x) { return __float_as_int(x); }
DEVICE int64 bits_of(const double x) { return __double_as_longlong(x); }
DEVICE float number_of_bits(const int x) { return __int_as_float(x); }
DEVICE double number_of_bits(const int64 x) { return __longlong_as_double(x); }
DEVICE int leading_zeros(const uint64 x) { return __clzll((int64)x); }
#else
DEVICE int bits_of(const float x) { int r; __builtin_memcpy(&r, &x, 4); return r; }
DEVICE int64 bits_of(const double x) { int64 r; __builtin_memcpy(&r, &x, 8); return r; }
DEVICE float number_of_bits(const int x) { float r; __builtin_memcpy(&r, &x, 4); return r; }
DEVICE double number_of_bits(const int64 x) { double r; __builtin_memcpy(&r, &x, 8); return r; }
DEVICE int leading_zeros(const uint64 x) { return x ? __builtin_clzll(x) : 64; }
#endif
template <class T> DEVICE T not_a_number();
template <> DEVICE float not_a_number<float>() { return number_of_bits(0x7fc00000); }
template <> DEVICE double not_a_number<double>() { return number_of_bits((int64)0x7ff8000000000000ll); }
template <class T> DEVICE T infinite();
template <> DEVICE float infinite<float>() { return number_of_bits(0x7f800000); }
template <> DEVICE double infinite<double>() { return number_of_bits((int64)0x7ff0000000000000ll); }

// A fused multiply-add by the type of its arguments.
DEVICE float multiply_add(const float a, const float b, const float c) { return fmaf(a, b, c); }
DEVICE double multiply_add(const double a, const double b, const double c) { return fma(a, b, c); }

// base ** exponent by squaring, in the order of the Numba backend: once per bit of the exponent.
template <class T> DEVICE T power(const T base, const uint64 exponent) {
    T result = 1, factor = base;
    uint64 rest = exponent;
    for (int turn = 64 - leading_zeros(exponent); turn > 0; --turn, rest >>= 1) {
        result = rest & 1 ? result * factor : result;
        factor = factor * factor;
    }
    return result;
}

template <class T> DEVICE bool is_finite(const T x) { return x - x == (T)0; }
