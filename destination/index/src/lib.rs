//! Pure: objects in, watch channels of model values out.
