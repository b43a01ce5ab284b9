package dev.attar.formats.block;

import dev.attar.formats.TensorType;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Every implementation of the encoders that this machine can run, side by side in one process: the scalar one, and vectors of each
 * width. The width is a constant of loaded classes, so each comes from a class loader of its own.
 */
final class Providers {

  private Providers() {}

  /** One implementation. */
  record Provider(String name, ClassLoader loader) {
    /** Its encoder of a type. */
    @SuppressWarnings("unchecked") // the method returns what the one of the same name here does
    Optional<BlockEncoder> encoder(TensorType type) {
      return (Optional<BlockEncoder>) call(BlockEncoders.class, "of", TensorType.class, type);
    }

    /** What its {@link Simd} says of itself. */
    String description() {
      return (String) call(Simd.class, "description", null, null);
    }

    /** Floats in a vector; for scalar code as many as in the widest. */
    int lanes() {
      return name.equals("scalar") ? 16 : Integer.parseInt(name.substring("vector".length())) / 32;
    }

    private Object call(Class<?> owner, String method, Class<?> parameter, Object argument) {
      try {
        Class<?> type = loader.loadClass(owner.getName());
        return parameter == null
          ? type.getMethod(method).invoke(null)
          : type.getMethod(method, parameter).invoke(null, argument);
      } catch (ReflectiveOperationException e) {
        throw new LinkageError(name, e);
      }
    }

    @Override
    public String toString() {
      return name;
    }
  }

  /** All of them; each was forced, so none can be another in disguise. */
  static List<Provider> all() {
    return Loaded.ALL;
  }

  /** Kept, so that tests share what the compiler has made of them. */
  private static final class Loaded {

    static final List<Provider> ALL = loadAll();
  }

  private static List<Provider> loadAll() {
    List<Provider> providers = new ArrayList<>();
    providers.add(load("scalar"));
    for (int bits = 128; bits <= Simd.bits(); bits *= 2) {
      providers.add(load("vector" + bits));
    }
    return providers;
  }

  /** The implementation that a value of the system property forces. */
  static Provider load(String forced) {
    String before = System.getProperty(Simd.PROPERTY);
    System.setProperty(Simd.PROPERTY, forced);
    try {
      ClassLoader loader = new Copy();
      Class.forName(Simd.class.getName(), true, loader);
      return new Provider(forced, loader);
    } catch (ClassNotFoundException e) {
      throw new AssertionError(e);
    } finally {
      if (before == null) {
        System.clearProperty(Simd.PROPERTY);
      } else {
        System.setProperty(Simd.PROPERTY, before);
      }
    }
  }

  /** Loads the package's classes anew, but for the interfaces by which callers see them. */
  private static final class Copy extends ClassLoader {

    Copy() {
      super(Providers.class.getClassLoader());
    }

    @Override
    protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
      boolean own =
        name.startsWith(Simd.class.getPackageName() + ".") &&
        !name.equals(BlockEncoder.class.getName()) &&
        !name.equals(BlockDecoder.class.getName());
      if (!own) {
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
