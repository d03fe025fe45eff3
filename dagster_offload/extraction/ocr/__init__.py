"""Reads text from pictures: image files, pages of a PDF, pictures inside documents. Tesseract is a program of the machine."""
