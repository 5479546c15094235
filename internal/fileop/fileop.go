// Package fileop computes what COPY, ADD and WORKDIR do as changes against the list of files
// below them, without a root filesystem.
package fileop
