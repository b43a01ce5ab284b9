/**
 * Matrices and operations on them, on a device: {@link dev.attar.compute.Device} is what the methods compute on, {@link
 * dev.attar.compute.Devices} finds one. Uses no other module.
 *
 * <p>The processor's device calls OpenBLAS, a shared library that is carried as a jar of {@code org.bytedeco:openblas}, by the
 * foreign-function API: {@code OpenBlasLibrary} finds and loads it, {@code OpenBlas} and {@code Level3} bind its functions, {@code
 * BlockedAlgebra} shares their work out to threads, {@code CpuDevice} checks what callers ask for before anything native runs.
 */
package dev.attar.compute;
