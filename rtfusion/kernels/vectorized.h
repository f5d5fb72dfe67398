/* What all kernels have in common: how they are compiled, and how they are found. */

#ifndef RTFUSION_VECTORIZED_H
#define RTFUSION_VECTORIZED_H

/* The right instructions are chosen when the library is loaded, where compiler and system can do that. -DVECTORIZED= does
 * without, for compilers that say they can and cannot. */
#ifndef VECTORIZED
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#if defined(__clang__) || __GNUC__ < 12
#define VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))
#else /* with whole numbers of 8 and of 16 bits in wide registers too */
#define VECTORIZED __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#endif
#endif
#endif
#endif
#ifndef VECTORIZED
#define VECTORIZED
#endif
#define EXPORTED __attribute__((visibility("default")))

#endif
