// Package source says where the files of a build come from, as trees.
package source
