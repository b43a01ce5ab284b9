/**
 * The CUDA device: matrices in a GPU's memory, dense algebra by cuBLAS and cuSOLVER, the rest by kernels of our own.
 *
 * <p>{@code Cuda} starts the driver and says what there is and why not, {@code CudaLibraries} finds and loads the driver and the
 * libraries, {@code CudaContext} holds a GPU with its streams and memory, {@code CudaAlgebra}, {@code
 * CudaQuantization}, {@code CudaBlockCoder} and {@code CudaPruning} have its operations, {@code CudaKernels} launches what the {@code .cu} resources
 * beside these classes define. They ship as PTX, which the driver compiles for its GPU; {@code compute/build-ptx} makes them. {@code
 * CudaStatus} turns every status code into an exception.
 *
 * <p>CUDA's driver and cuBLAS are called through JCuda, cuSOLVER through the foreign-function API.
 */
package dev.attar.compute.cuda;
