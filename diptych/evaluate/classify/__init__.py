"""What `diptych classify` does: labels and images in, a row for each image out, on stdout or in a file that resumes."""
