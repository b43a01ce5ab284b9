package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.OpenBlasLibrary.Places;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OpenBlasLibraryTest {

  private static final String BLAS = "libopenblas.so.0";
  private static final String FORTRAN = "libgfortran.so.5";

  /** No machine's, so that nothing in the jar can be loaded, only unpacked. */
  private static final String PLATFORM = "linux-test";

  @TempDir
  private Path temp;

  private Path cache;
  private Path jar;

  @BeforeEach
  void makeJar() throws IOException {
    cache = temp.resolve("some").resolve("cache");
    jar = temp.resolve("openblas.jar");
    writeJar("a library");
  }

  private void writeJar(String blas) throws IOException {
    try (
      OutputStream out = Files.newOutputStream(jar);
      ZipOutputStream zip = new ZipOutputStream(out, StandardCharsets.UTF_8)
    ) {
      for (String name : List.of(FORTRAN, BLAS, "libjniopenblas.so")) {
        byte[] content = (name.equals(BLAS) ? blas : name).getBytes(StandardCharsets.UTF_8);
        ZipEntry entry = new ZipEntry("org/bytedeco/openblas/" + PLATFORM + "/" + name);
        entry.setMethod(ZipEntry.STORED);
        entry.setSize(content.length);
        CRC32 crc = new CRC32();
        crc.update(content);
        entry.setCrc(crc.getValue());
        zip.putNextEntry(entry);
        zip.write(content);
        zip.closeEntry();
      }
    }
  }

  /** The message of an attempt to load. */
  private String fails(String file, Path cacheFolder, String... systemNames) {
    try (URLClassLoader loader = new URLClassLoader(new URL[] { jar.toUri().toURL() }, null)) {
      Places places = new Places(file, PLATFORM, loader, cacheFolder, List.of(systemNames));
      String message = assertThrows(IOException.class, () -> OpenBlasLibrary.load(places)).getMessage();
      assertEquals(1, message.lines().count(), message);
      return message;
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private List<Path> unpacked() throws IOException {
    try (Stream<Path> files = Files.walk(cache)) {
      return files
        .filter(file -> file.endsWith(BLAS))
        .sorted()
        .toList();
    }
  }

  private static void contains(String message, String... parts) {
    for (String part : parts) {
      assertTrue(message.contains(part), message);
    }
  }

  @Test
  void namesPlatforms() {
    assertEquals("linux-x86_64", OpenBlasLibrary.platform("Linux", "amd64"));
    assertEquals("linux-arm64", OpenBlasLibrary.platform("Linux", "aarch64"));
    assertEquals("macosx-x86_64", OpenBlasLibrary.platform("Mac OS X", "x86_64"));
    assertEquals("macosx-arm64", OpenBlasLibrary.platform("Mac OS X", "aarch64"));
    assertEquals("windows-x86_64", OpenBlasLibrary.platform("Windows 11", "amd64"));
    assertEquals("freebsd-riscv64", OpenBlasLibrary.platform("FreeBSD", "riscv64"));
  }

  @Test
  void unpacksWhatTheJarCarries() throws IOException {
    contains(fails(null, cache), cache.toString(), FORTRAN, "cannot be loaded");
    Path blas = unpacked().getFirst();
    assertEquals("a library", Files.readString(blas));
    assertEquals(FORTRAN, Files.readString(blas.resolveSibling(FORTRAN)));
    try (Stream<Path> files = Files.list(blas.getParent())) {
      assertEquals(
        List.of(FORTRAN, BLAS, "lock"),
        files
          .map(f -> f.getFileName().toString())
          .sorted()
          .toList()
      );
    }
  }

  @Test
  void unpacksOnceAndMendsWhatIsIncomplete() throws IOException {
    fails(null, cache);
    Path blas = unpacked().getFirst();
    Files.writeString(blas, "A LIBRARY");
    fails(null, cache);
    assertEquals("A LIBRARY", Files.readString(blas), "not written again");
    Files.writeString(blas, "a lib");
    Files.writeString(blas.resolveSibling(BLAS + ".new"), "what a killed process left");
    fails(null, cache);
    assertEquals("a library", Files.readString(blas));
    Files.delete(blas);
    fails(null, cache);
    assertEquals("a library", Files.readString(blas));
  }

  @Test
  void keepsDifferentLibrariesApart() throws IOException {
    fails(null, cache);
    writeJar("b library");
    fails(null, cache);
    List<Path> both = unpacked();
    assertEquals(2, both.size());
    assertNotEquals(Files.readString(both.getFirst()), Files.readString(both.getLast()));
  }

  @Test
  void refusesADamagedJar() throws IOException {
    String bytes = Files.readString(jar, StandardCharsets.ISO_8859_1);
    Files.writeString(jar, bytes.replace("a library", "a lybrary"), StandardCharsets.ISO_8859_1);
    contains(fails(null, cache), BLAS, "CRC", "expected 9 with", "damaged");
    assertEquals(List.of(), unpacked());
  }

  @Test
  void unpacksForItselfWhereTheCacheCannotBeWritten() throws IOException {
    Path file = Files.writeString(temp.resolve("file"), "");
    contains(fails(null, file.resolve("cache")), "attar-openblas-", FORTRAN, "cannot be loaded");
  }

  @Test
  void severalThreadsMayUnpackAtATime() throws IOException {
    List<String> messages = IntStream.range(0, 8)
      .parallel()
      .mapToObj(_ -> fails(null, cache))
      .distinct()
      .toList();
    assertEquals(1, messages.size(), messages.toString());
    assertEquals("a library", Files.readString(unpacked().getFirst()));
  }

  @Test
  void aNamedFileComesFirst() throws IOException {
    contains(fails(temp.resolve("none.so").toString(), cache), "none.so", "found nothing");
    contains(fails(temp.toString(), cache), "found a folder");
    contains(fails("\0", cache), "OpenBLAS at");
    Path text = Files.writeString(temp.resolve("text.so"), "text");
    contains(fails(text.toString(), cache), text.toString(), "cannot be loaded");
    assertTrue(Files.notExists(cache));
  }

  @Test
  void saysWhereItLooked() throws IOException {
    Files.delete(jar);
    String message = fails(" ", cache, "libnone.so", "libnone.so.0");
    contains(message, "no OpenBLAS", "ATTAR_OPENBLAS_LIB", PLATFORM, "libnone.so or libnone.so.0");
  }

  /** The library of this build, unpacked anew and named: a second copy in this process, which computes the same. */
  @Test
  void loadsTheBuildsOwnLibrary() throws IOException {
    Places own = Places.ofThisProcess();
    Places here = new Places(null, own.platform(), own.resources(), cache, List.of());
    OpenBlasLibrary library = OpenBlasLibrary.load(here);
    assertTrue(Path.of(library.place()).startsWith(cache), library.place());
    Places named = new Places(library.place(), PLATFORM, own.resources(), temp.resolve("unused"), List.of());
    OpenBlas blas = OpenBlas.load(named);
    try (CpuDevice device = new CpuDevice(blas, 2); Scope scope = device.scope()) {
      Matrix a = scope.matrix(1, 2);
      Matrix product = scope.matrix(1, 1);
      device.upload(MemorySegment.ofArray(new float[] { 3, 4 }), a);
      device.gemm(1, a, false, a, true, 0, product);
      float[] found = new float[1];
      device.download(product, MemorySegment.ofArray(found));
      assertArrayEquals(new float[] { 25 }, found);
    }
  }

  /** A library that can be loaded, but is not OpenBLAS. */
  @Test
  void refusesAnotherLibrary() throws IOException {
    Path java = Path.of(System.getProperty("java.home"), "lib", System.mapLibraryName("zip"));
    Path other = Files.exists(java) ? java : Path.of(System.getProperty("java.home"), "bin", "zip.dll");
    Places places = new Places(other.toString(), PLATFORM, getClass().getClassLoader(), cache, List.of());
    String message = assertThrows(IOException.class, () -> OpenBlas.load(places)).getMessage();
    contains(message, other.toString(), "openblas_get_config", "expected OpenBLAS");
  }
}
