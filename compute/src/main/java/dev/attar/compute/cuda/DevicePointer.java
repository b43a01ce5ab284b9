package dev.attar.compute.cuda;

import jcuda.driver.CUdeviceptr;

/** An address in a GPU's memory, as JCuda's calls take it and tell it. */
final class DevicePointer extends CUdeviceptr {

  /** To be filled by a call. */
  DevicePointer() {}

  DevicePointer(long address) {
    super(new CUdeviceptr(), address);
  }

  long address() {
    return getNativePointer() + getByteOffset();
  }
}
