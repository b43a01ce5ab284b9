/**
 * What a teacher says of the windows of a text: {@code LlamaTeacher} has llama.cpp compute it in a process of its own, of which {@code
 * TeacherServer} is the other end; {@code CachedTeacher} remembers it on disk.
 */
package dev.attar.distill.teacher;
