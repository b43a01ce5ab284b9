package dev.attar.compute.cuda;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import jcuda.driver.JCudaDriver;
import jcuda.jcublas.JCublas2;

/** Finds and loads CUDA's driver and libraries, and JCuda's libraries after them. */
final class CudaLibraries {

  private CudaLibraries() {}

  /** Loads the libraries of a folder, once. */
  static synchronized void load(Path folder) throws IOException {
    for (String name : List.of("libcuda.so.1", "libcublas.so.12", "libcusolver.so.11")) {
      SymbolLookup _ = SymbolLookup.libraryLookup(folder.resolve(name), Arena.global());
    }
    // JCuda's loader unpacks to a fixed name in the folder for temporary files: give it one of our own.
    String before = System.getProperty("java.io.tmpdir");
    Path own = Files.createTempDirectory("attar-jcuda");
    System.setProperty("java.io.tmpdir", own.toString());
    try {
      JCudaDriver.setExceptionsEnabled(false);
      JCublas2.setExceptionsEnabled(false);
    } finally {
      System.setProperty("java.io.tmpdir", before);
    }
  }
}
