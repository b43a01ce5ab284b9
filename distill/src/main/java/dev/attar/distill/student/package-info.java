/** What a student is made of before it is trained, and how what became of it is presented as a model. */
package dev.attar.distill.student;
