"""Shearbolt."""
