package dev.attar.bench.accuracy;

import dev.attar.formats.block.Simd;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;

/**
 * Every kernel that this machine can run: the scalar one, and vectors of each width. The width is a constant of loaded classes, so each
 * comes from a class loader of its own.
 */
final class Kernels {

  private static final List<Scorer> ALL = loadAll();

  private Kernels() {}

  static List<Scorer> all() {
    return ALL;
  }

  private static List<Scorer> loadAll() {
    List<Scorer> all = new ArrayList<>();
    all.add(load("scalar"));
    for (int bits = 128; bits <= Simd.bits(); bits *= 2) {
      all.add(load("vector" + bits));
    }
    return List.copyOf(all);
  }

  /** The kernel that a value of the system property forces. */
  static Scorer load(String forced) {
    String before = System.getProperty(Simd.PROPERTY);
    System.setProperty(Simd.PROPERTY, forced);
    try {
      return (Scorer) new Copy().loadClass(KernelScorer.class.getName()).getDeclaredConstructor().newInstance();
    } catch (ReflectiveOperationException e) {
      throw new LinkageError(forced, e);
    } finally {
      if (before == null) {
        System.clearProperty(Simd.PROPERTY);
      } else {
        System.setProperty(Simd.PROPERTY, before);
      }
    }
  }

  /** Loads the classes of the kernels anew, but for the types by which the test sees them. */
  private static final class Copy extends ClassLoader {

    Copy() {
      super(Kernels.class.getClassLoader());
    }

    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
      boolean own =
        name.startsWith(Simd.class.getPackageName() + ".") || name.startsWith(Kernels.class.getPackageName() + ".");
      if (!own || name.startsWith(Scorer.class.getName())) {
        return super.loadClass(name, resolve);
      }
      synchronized (getClassLoadingLock(name)) {
        Class<?> loaded = findLoadedClass(name);
        return loaded != null ? loaded : define(name);
      }
    }

    private Class<?> define(String name) throws ClassNotFoundException {
      try (InputStream in = getParent().getResourceAsStream(name.replace('.', '/') + ".class")) {
        if (in == null) {
          throw new ClassNotFoundException(name);
        }
        byte[] bytes = in.readAllBytes();
        return defineClass(name, bytes, 0, bytes.length);
      } catch (IOException e) {
        throw new ClassNotFoundException(name, e);
      }
    }
  }
}
