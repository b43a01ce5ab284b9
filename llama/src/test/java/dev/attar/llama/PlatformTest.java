package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PlatformTest {

  @ParameterizedTest
  @CsvSource(
    {
      "Linux, amd64, linux-x64, libllama.so",
      "Linux, aarch64, linux-arm64, libllama.so",
      "Mac OS X, aarch64, mac-arm64-metal, libllama.dylib",
      "Mac OS X, x86_64, mac-x64, libllama.dylib",
      "Windows 11, amd64, win-x64, llama.dll",
      "FreeBSD, riscv64, freebsd-riscv64, libllama.so"
    }
  )
  void namesThePackageAndTheLibrary(String os, String arch, String bundle, String library) {
    Platform platform = Platform.of(os, arch);
    assertEquals(bundle, platform.bundle());
    assertEquals(library, platform.libraryName("llama"));
  }

  @ParameterizedTest
  @CsvSource(
    {
      "Linux, libllama.so, llama, true",
      "Linux, libllama.v0.5.0.so, llama, true",
      "Linux, libllama.so.0, llama, true",
      "Linux, libllama-common.so, llama, false",
      "Linux, libggml-base.so, ggml, false",
      "Linux, libggml-base.so, ggml-base, true",
      "Linux, libllama.a, llama, false",
      "Mac OS X, libggml.metal.v0.5.0.dylib, ggml, true",
      "Mac OS X, libggml-cpu-apple_m1.so, ggml, false",
      "Windows 10, llama.v0.5.0.dll, llama, true",
      "Windows 10, Llama.DLL, llama, true",
      "Windows 10, llama.lib, llama, false"
    }
  )
  void tellsLibrariesFromOtherFiles(String os, String file, String stem, boolean expected) {
    assertEquals(expected, Platform.of(os, "amd64").isLibrary(file, stem));
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "the paths here are those of Unix")
  void knowsWhereCachesGo() {
    Path home = Path.of("/home/u");
    assertEquals(Path.of("/home/u/.cache/attar"), Platform.of("Linux", "amd64").cache(_ -> null, home));
    assertEquals(Path.of("/c/attar"), Platform.of("Linux", "amd64").cache(Map.of("XDG_CACHE_HOME", "/c")::get, home));
    assertEquals(
      Path.of("/home/u/.cache/attar"),
      Platform.of("Linux", "amd64").cache(Map.of("XDG_CACHE_HOME", "relative")::get, home)
    );
    assertEquals(
      Path.of("/home/u/.cache/attar"),
      Platform.of("Linux", "amd64").cache(Map.of("XDG_CACHE_HOME", "bad\0name")::get, home)
    );
    assertEquals(Path.of("/home/u/Library/Caches/attar"), Platform.of("Mac OS X", "aarch64").cache(_ -> null, home));
    assertEquals(
      Path.of("/local/attar"),
      Platform.of("Windows 11", "amd64").cache(Map.of("LOCALAPPDATA", "/local")::get, home)
    );
    assertEquals(Path.of("/home/u/AppData/Local/attar"), Platform.of("Windows 11", "amd64").cache(_ -> null, home));
  }
}
